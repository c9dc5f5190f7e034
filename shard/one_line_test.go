package shard

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOneLine(t *testing.T) {
	require.Equal(t, "as it is", OneLine("as it is"))
	joined := errors.Join(errors.New("lease lost"), errors.New("revoke the lease: no answer\n"))
	require.Equal(t, "lease lost; revoke the lease: no answer", OneLine(joined.Error()))
	require.Equal(t, "panic: x; goroutine 1 [running]:; main.f()", OneLine("panic: x\n\ngoroutine 1 [running]:\r\n\tmain.f()"))
}
