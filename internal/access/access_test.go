package access_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
)

func TestRoleOfAUser(t *testing.T) {
	for _, c := range []struct {
		level             int64
		granted, signedIn access.Role
		want              access.Role
	}{
		{0, access.Nobody, access.Nobody, access.User},
		{1, access.Nobody, access.Nobody, access.Operator},
		{100, access.Nobody, access.Nobody, access.Admin},
		{0, access.Nobody, access.Viewer, access.Viewer},
		{0, access.Nobody, access.Admin, access.Admin},
		{1, access.Nobody, access.Viewer, access.Operator},
		{100, access.Nobody, access.Operator, access.Admin},
		{100, access.Viewer, access.Admin, access.Viewer},
		{0, access.Admin, access.Nobody, access.Admin},
	} {
		require.Equal(t, c.want, access.Of(c.level, c.granted, c.signedIn), "%+v", c)
	}
}

// TestRules: who may in any case, who may if related, who may not.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		rule                access.Rule
		role                access.Role
		may, ifRelated, try bool
	}{
		{access.Reading, access.Nobody, false, false, false},
		{access.Reading, access.Viewer, true, true, true},
		{access.Submitting, access.Viewer, false, false, false},
		{access.Submitting, access.User, true, true, true},
		{access.ChangingHosts, access.Viewer, false, false, false},
		{access.ChangingHosts, access.User, false, true, true},
		{access.ChangingHosts, access.Operator, true, true, true},
		{access.OwnTokens, access.Nobody, false, false, false},
		{access.OwnTokens, access.Operator, false, true, true},
		{access.Administering, access.Operator, false, false, false},
		{access.Administering, access.Admin, true, true, true},
	} {
		caller := access.Caller{Login: "x", Role: c.role}
		require.Equal(t, c.may, c.rule.Check(caller, false) == nil, "%+v", c)
		require.Equal(t, c.ifRelated, c.rule.Check(caller, true) == nil, "%+v", c)
		require.Equal(t, c.try, c.rule.MayTry(caller), "%+v", c)
		if !c.may {
			require.ErrorIs(t, c.rule.Check(caller, false), access.ErrDenied)
		}
	}
}

// TestLocal: whoever is known by the machine alone submits for the first administrator.
func TestLocal(t *testing.T) {
	for _, c := range []struct {
		caller access.Caller
		want   bool
	}{
		{access.Caller{By: access.BySocket, Role: access.Admin}, true},
		{access.Caller{By: access.ByNobody, Role: access.Admin}, true},
		{access.Caller{By: access.ByNobody, Role: access.Viewer}, false},
		{access.Caller{By: "token 1", Role: access.Admin}, false},
	} {
		require.Equal(t, c.want, c.caller.Local(), "%+v", c)
	}
}
