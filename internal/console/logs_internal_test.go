package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// keep gives a log to a keeper in parts of a size.
func keep(q logQuery, log string, size int) *lineKeeper {
	k := &lineKeeper{logQuery: q}
	for rest := log; rest != ""; {
		n := min(size, len(rest))
		_, _ = k.Write([]byte(rest[:n]))
		rest = rest[n:]
	}
	return k
}

// TestLineKeeper: whatever the parts in which a log comes, its lines have the same numbers, and
// what is kept of it is bounded.
func TestLineKeeper(t *testing.T) {
	var log strings.Builder
	for i := 1; i <= 10_000; i++ {
		fmt.Fprintf(&log, "line %d\r\n", i)
	}
	log.WriteString("\x1b[31mthe last\x1b[0m, without an end: \xff")
	for _, size := range []int{1, 7, 4096, 1 << 20} {
		k := keep(logQuery{tail: 10}, log.String(), size)
		require.Equal(t, 10_000, k.n)
		require.Less(t, len(k.kept), 20)
		require.Equal(t, logLine{N: 10_000, raw: "line 10000"}, k.kept[len(k.kept)-1])
		require.Equal(t, int64(strings.LastIndex(log.String(), "\n")+1), k.complete)
		k.finish()
		last := k.kept[len(k.kept)-1]
		require.Equal(t, 10_001, last.N)
		require.Equal(t, []span{{"ansi1", "the last"}, {"", ", without an end: \uFFFD"}}, last.Spans())

		k = keep(logQuery{from: 500}, log.String(), size)
		require.Equal(t, logLine{N: 500, raw: "line 500"}, k.kept[0])
		require.Len(t, k.kept, pageLines)

		k = keep(logQuery{text: "LINE 77"}, log.String(), size)
		require.Len(t, k.kept, 111)
		require.Equal(t, logLine{N: 77, raw: "line 77"}, k.kept[0])
	}
	k := keep(logQuery{tail: 10}, strings.Repeat("x", 1<<20)+"\n", 1<<16)
	require.Len(t, k.kept[0].raw, maxLine)
}
