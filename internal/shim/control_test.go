package shim

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestControlIsReadWholeOrNotAtAll(t *testing.T) {
	want := Control{Boot: "b", Ask: 1, Kill: 2, Sent: 3, Length: 4, Stop: StopHard, Grace: 5}
	data, err := want.encode()
	require.NoError(t, err)
	require.Len(t, data, controlSize)
	got, ok := decodeControl(data)
	require.True(t, ok)
	require.Equal(t, want, got)
	other, err := Control{Boot: "b", Ask: 7, Kill: 2, Sent: 30000, Length: 4}.encode()
	require.NoError(t, err)
	for n := 1; n < len(data); n++ {
		torn := append(append([]byte{}, other[:n]...), data[n:]...)
		if got, ok := decodeControl(torn); ok {
			require.Contains(t, []Control{want, {Boot: "b", Ask: 7, Kill: 2, Sent: 30000, Length: 4}}, got)
		}
	}
}
