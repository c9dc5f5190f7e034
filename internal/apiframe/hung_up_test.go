package apiframe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/apiframe"
)

// TestHungUp: a caller that hung up is no error of the server, and what failed is one.
func TestHungUp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info})
	require.Error(t, apiframe.AsProblem(fmt.Errorf("read: %w", context.Canceled), nil, log))
	require.Empty(t, out.String())
	require.Error(t, apiframe.AsProblem(errors.New("the disk is gone"), nil, log))
	require.Contains(t, out.String(), "the disk is gone")
}
