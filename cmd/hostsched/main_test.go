package main

import (
	"context"
	"os"
	"testing"

	"github.com/hostsched/hostsched/internal/testserver"
)

// asProgram makes the test binary behave as the program, so that tests run real
// processes of exactly the code under test.
const asProgram = "HOSTSCHED_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if clock := os.Getenv(clockFile); clock != "" {
			setOwnClock(clock)
		}
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv(asStubborn) != "" {
		endStubbornly()
		return
	}
	testserver.Main(m)
}
