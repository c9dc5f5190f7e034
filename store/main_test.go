package store_test

import (
	"os"
	"testing"

	"github.com/hostsched/hostsched/internal/testserver"
)

func TestMain(m *testing.M) {
	dsn := os.Getenv(sleeperEnv)
	if stop := os.Getenv(moverEnv); stop != "" {
		os.Exit(moveAndHang(dsn, stop))
	}
	if dsn != "" {
		os.Exit(sleepInTransaction(dsn))
	}
	testserver.Main(m)
}
