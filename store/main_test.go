package store_test

import (
	"testing"

	"github.com/hostsched/hostsched/internal/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }
