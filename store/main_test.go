package store_test

import (
	"fmt"
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
	if err := chooseServers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	testserver.Main(m)
}
