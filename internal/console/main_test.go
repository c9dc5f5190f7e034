package console_test

import (
	"testing"

	"github.com/hostsched/hostsched/internal/testserver"
)

func TestMain(m *testing.M) {
	testserver.HostileDefaults()
	testserver.MainWithoutLeaks(m)
}
