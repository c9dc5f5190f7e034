package store_test

import (
	"os"
	"testing"

	"github.com/hostsched/hostsched/internal/testserver"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(sleeperEnv); dsn != "" {
		os.Exit(sleepInTransaction(dsn))
	}
	testserver.HostileDefaults()
	testserver.MainWithoutLeaks(m)
}
