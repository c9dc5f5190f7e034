package command_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/command"
)

func TestLeaseCountsFromTheSendingOfTheCall(t *testing.T) {
	sent := command.Now()
	l := command.NewLease(sent, time.Minute)
	require.Equal(t, sent.Add(time.Minute), l.Until())
	l.Renewed(sent.Add(20*time.Second), 2*time.Minute)
	require.Equal(t, sent.Add(140*time.Second), l.Until())
	l.Renewed(sent.Add(10*time.Second), time.Minute) // an answer that was long on its way
	require.Equal(t, sent.Add(140*time.Second), l.Until())
	require.Equal(t, 2*time.Minute, l.Length())
	require.LessOrEqual(t, l.Until().Until(), 140*time.Second)
}

func TestEverythingIsOverBeforeTheLeaseEnds(t *testing.T) {
	for _, c := range []struct{ length, grace, ask, kill time.Duration }{
		{10 * time.Minute, 30 * time.Second, 35 * time.Second, 5 * time.Second},
		{10 * time.Minute, 10 * time.Minute, 155 * time.Second, 5 * time.Second},
		{2 * time.Second, 30 * time.Second, 700 * time.Millisecond, 200 * time.Millisecond},
	} {
		l := command.NewLease(command.Now(), c.length)
		ask, kill := l.Stop(c.grace)
		require.Equal(t, l.Until().Add(-c.ask), ask)
		require.Equal(t, l.Until().Add(-c.kill), kill)
	}
}
