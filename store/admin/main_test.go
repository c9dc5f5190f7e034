package admin_test

import (
	"os"
	"testing"

	"github.com/hostsched/hostsched/internal/testserver"
)

func TestMain(m *testing.M) {
	if stop := os.Getenv(moverEnv); stop != "" {
		os.Exit(moveAndHang(os.Getenv(moverDSNEnv), stop))
	}
	testserver.HostileDefaults()
	testserver.MainWithoutLeaks(m)
}
