package shard_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/shard"
)

func TestNames(t *testing.T) {
	for _, name := range []string{"master", "lab-east", "shard7.example.com", "0123", "Prüfstand", strings.Repeat("ü", 190)} {
		got, err := shard.Parse(name)
		require.NoError(t, err, name)
		require.Equal(t, name, got.String())
		require.NoError(t, shard.CheckName(name), name)
	}
	for _, name := range []string{"", "a/b", "../z", ".", "..", "a b", "a\tb", "a\n", "a\u00a0b", "a\x00b", "l\xe4b", strings.Repeat("x", 191)} {
		require.Error(t, shard.CheckName(name), "%q", name)
		_, err := shard.Parse(name)
		require.ErrorIs(t, err, shard.ErrName, "%q", name)
	}
}
