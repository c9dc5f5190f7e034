package api_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// user enters a user and returns a token.
func (s *server) user(t *testing.T, login string, level int) string {
	t.Helper()
	require.Equal(t, http.StatusCreated, s.call(t, s.admin, http.MethodPost, "/users", labapi.UserInput{Login: login}, nil))
	storetest.Exec(t, s.db, "UPDATE afe_users SET access_level = ? WHERE login = ?", level, login)
	return s.token(t, labapi.TokenInput{Login: login, Name: "test"})
}

func (s *server) addHost(t *testing.T, in labapi.HostInput) labapi.Host {
	t.Helper()
	var h labapi.Host
	require.Equal(t, http.StatusCreated, s.call(t, s.admin, http.MethodPost, "/hosts", in, &h))
	return h
}

// change changes something of a version.
func (s *server) change(t *testing.T, token, method, path, version string, in, out any) int {
	t.Helper()
	return s.callWith(t, token, method, path, http.Header{"If-Match": {version}}, in, out)
}

func TestHosts(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		var woken []shard.Name
		s := newServerWith(t, db, func(c *api.Config) {
			c.Wake = func(name shard.Name, _ ...int64) { woken = append(woken, name) }
		})
		h := s.addHost(t, labapi.HostInput{Hostname: "h1", Labels: []string{"board:eve", "pool:a"}, Protection: "do not repair", Attributes: map[string]string{"serial": "x1"}})
		require.Equal(t, "h1", h.Hostname)
		require.Equal(t, "Ready", h.Status)
		require.Equal(t, []string{"board:eve", "pool:a"}, h.Labels)
		require.Equal(t, []string{"Everyone"}, h.ACLGroups)
		require.Equal(t, "Do not repair", h.Protection)
		require.Equal(t, map[string]string{"serial": "x1"}, h.Attributes)
		require.False(t, h.Leased)
		require.Equal(t, "master", h.Shard)
		require.Equal(t, []shard.Name{"master"}, woken)

		var p problem
		require.Equal(t, http.StatusConflict, s.call(t, s.admin, http.MethodPost, "/hosts", labapi.HostInput{Hostname: "H1"}, &p))
		require.Equal(t, "/problems/exists", p.Type)

		// A change needs the version that was read.
		status, version := s.version(t, "/hosts/h1")
		require.Equal(t, http.StatusOK, status)
		patch := labapi.HostPatch{AddLabels: []string{"pool:b"}, RemoveLabels: []string{"POOL:A"}, Attributes: map[string]string{"serial": "", "rack": "7"}}
		require.Equal(t, http.StatusPreconditionRequired, s.call(t, s.admin, http.MethodPatch, "/hosts/h1", patch, &p))
		require.Equal(t, http.StatusOK, s.change(t, s.admin, http.MethodPatch, "/hosts/h1", version, patch, &h))
		require.Equal(t, []string{"board:eve", "pool:b"}, h.Labels)
		require.Equal(t, map[string]string{"rack": "7"}, h.Attributes)
		require.Equal(t, http.StatusPreconditionFailed, s.change(t, s.admin, http.MethodPatch, "/hosts/h1", version, patch, &p))
		require.Equal(t, "/problems/stale-version", p.Type)

		// In use it stays, and then it goes and comes back without what it had.
		storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 1")
		require.Equal(t, http.StatusConflict, s.change(t, s.admin, http.MethodDelete, "/hosts/h1", "*", nil, &p))
		storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 0")
		require.Equal(t, http.StatusNoContent, s.change(t, s.admin, http.MethodDelete, "/hosts/h1", "*", nil, nil))
		require.Equal(t, http.StatusNotFound, s.call(t, s.admin, http.MethodGet, "/hosts/h1", nil, &p))
		again := s.addHost(t, labapi.HostInput{Hostname: "h1", Locked: true, LockReason: "new board"})
		require.Equal(t, h.ID, again.ID)
		require.Empty(t, again.Labels)
		require.Equal(t, "root", again.Lock.By)

		var history labapi.Page[labapi.Event]
		require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/hosts/h1/history", nil, &history))
		var kinds []string
		for _, e := range history.Items {
			kinds = append(kinds, e.Kind)
		}
		require.Equal(t, []string{"host.locked", "host.added", "host.removed", "host.changed", "host.added"}, kinds)
	})
}

// TestHoldsOfSeveralPeople: neither a lock nor a drain ends another person's hold.
func TestHoldsOfSeveralPeople(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		alice, bob := s.user(t, "alice", 0), s.user(t, "bob", 0)
		s.addHost(t, labapi.HostInput{Hostname: "h1"})
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)

		var h labapi.Host
		require.Equal(t, http.StatusOK, s.call(t, alice, http.MethodPut, "/hosts/h1/lock", labapi.LockInput{Reason: "new RAM", Until: &until}, &h))
		require.True(t, h.Locked)
		require.Equal(t, "alice", h.Lock.By)
		require.Equal(t, "new RAM", h.Lock.Reason)
		require.Equal(t, until, *h.Lock.Until)
		require.NotNil(t, h.Lock.Since)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE dirty = 1 AND locked = 1"))

		var p problem
		require.Equal(t, http.StatusConflict, s.call(t, bob, http.MethodPut, "/hosts/h1/lock", labapi.LockInput{Reason: "mine"}, &p))
		require.Equal(t, "/problems/locked-by-other", p.Type)
		require.Equal(t, http.StatusOK, s.call(t, bob, http.MethodPut, "/hosts/h1/drain", labapi.DrainInput{Reason: "move"}, &h))
		require.Equal(t, "alice", h.Lock.By)
		require.Equal(t, "bob", h.Drain.By)
		require.Equal(t, http.StatusConflict, s.call(t, alice, http.MethodPut, "/hosts/h1/drain", labapi.DrainInput{Reason: "mine"}, &p))
		require.Equal(t, http.StatusOK, s.call(t, bob, http.MethodPut, "/hosts/h1/lock?steal=true", labapi.LockInput{Reason: "mine"}, &h))
		require.Equal(t, "bob", h.Lock.By)
		require.Nil(t, h.Lock.Until, "the end belonged to the other lock")
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events WHERE kind = 'host.locked' AND reason LIKE '%was locked by alice: new RAM%'"))

		require.Equal(t, http.StatusOK, s.call(t, bob, http.MethodDelete, "/hosts/h1/lock", nil, &h))
		require.False(t, h.Locked)
		require.NotNil(t, h.Drain)
		require.Equal(t, http.StatusOK, s.call(t, bob, http.MethodDelete, "/hosts/h1/lock", nil, nil), "there is no lock to end")
		require.Equal(t, http.StatusOK, s.call(t, bob, http.MethodDelete, "/hosts/h1/drain", nil, &h))
		require.Nil(t, h.Drain)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events WHERE kind = 'host.unlocked' AND reason = '(was locked by bob: mine)'"))
	})
}

// TestHostsOfOtherGroups: users change hosts only of their own ACL groups, and a host that is
// in another group has left Everyone.
func TestHostsOfOtherGroups(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		alice, operator := s.user(t, "alice", 0), s.user(t, "operator", 1)
		s.addHost(t, labapi.HostInput{Hostname: "h1"})
		var g labapi.ACLGroup
		require.Equal(t, http.StatusCreated, s.call(t, s.admin, http.MethodPost, "/acl-groups", labapi.ACLGroupInput{Name: "camera", Users: []string{"operator"}, Hosts: []string{"h1"}}, &g))
		require.Equal(t, []string{"h1"}, g.Hosts)
		var h labapi.Host
		require.Equal(t, http.StatusOK, s.call(t, alice, http.MethodGet, "/hosts/h1", nil, &h))
		require.Equal(t, []string{"camera"}, h.ACLGroups)

		var p problem
		require.Equal(t, http.StatusForbidden, s.call(t, alice, http.MethodPut, "/hosts/h1/lock", labapi.LockInput{Reason: "x"}, &p))
		require.Equal(t, "/problems/not-allowed", p.Type)
		require.Equal(t, http.StatusForbidden, s.change(t, alice, http.MethodPatch, "/hosts/h1", "*", labapi.HostPatch{AddLabels: []string{"x"}}, &p))
		require.Equal(t, http.StatusOK, s.call(t, operator, http.MethodPut, "/hosts/h1/lock", labapi.LockInput{Reason: "x"}, nil))
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_labels"), "a refused change enters no label")

		var users labapi.Page[labapi.User]
		require.Equal(t, http.StatusOK, s.call(t, alice, http.MethodGet, "/hosts/h1/users", nil, &users))
		require.Len(t, users.Items, 1)
		require.Equal(t, "operator", users.Items[0].Login)
		require.Equal(t, []string{"camera"}, users.Items[0].ACLGroups)

		// Everyone is what is left when the last other group is gone.
		require.Equal(t, http.StatusOK, s.change(t, s.admin, http.MethodPatch, "/acl-groups/camera", "*", labapi.ACLGroupPatch{RemoveHosts: []string{"h1"}, AddUsers: []string{"alice"}}, &g))
		require.Equal(t, []string{"alice", "operator"}, g.Users)
		require.Equal(t, http.StatusOK, s.call(t, alice, http.MethodGet, "/hosts/h1", nil, &h))
		require.Equal(t, []string{"Everyone"}, h.ACLGroups)
		require.Equal(t, http.StatusConflict, s.change(t, s.admin, http.MethodPatch, "/acl-groups/everyone", "*", labapi.ACLGroupPatch{AddUsers: []string{"alice"}}, &p))
		require.Equal(t, http.StatusConflict, s.change(t, s.admin, http.MethodDelete, "/acl-groups/Everyone", "*", nil, &p))
		require.Equal(t, http.StatusOK, s.change(t, s.admin, http.MethodPatch, "/acl-groups/camera", "*", labapi.ACLGroupPatch{AddHosts: []string{"h1"}}, nil))
		require.Equal(t, http.StatusNoContent, s.change(t, s.admin, http.MethodDelete, "/acl-groups/camera", "*", nil, nil))
		require.Equal(t, http.StatusOK, s.call(t, alice, http.MethodGet, "/hosts/h1", nil, &h))
		require.Equal(t, []string{"Everyone"}, h.ACLGroups)
	})
}

func TestHostFilters(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.addHost(t, labapi.HostInput{Hostname: "a_1", Labels: []string{"board:eve", "pool:x"}})
		s.addHost(t, labapi.HostInput{Hostname: "a-2", Labels: []string{"board:eve"}})
		s.addHost(t, labapi.HostInput{Hostname: "b_3", Labels: []string{"pool:x"}, Locked: true, LockReason: "x"})
		require.Equal(t, http.StatusCreated, s.call(t, s.admin, http.MethodPost, "/acl-groups", labapi.ACLGroupInput{Name: "g", Hosts: []string{"a-2"}}, nil))
		storetest.Exec(t, db, "UPDATE afe_hosts SET status = 'Repair Failed' WHERE hostname = 'a-2'")
		for query, want := range map[string][]string{
			"":                                 {"a_1", "a-2", "b_3"},
			"label=board:eve":                  {"a_1", "a-2"},
			"label=board:eve&label=pool:x":     {"a_1"},
			"label=BOARD:EVE&locked=false":     {"a_1", "a-2"},
			"status=Repair+Failed":             {"a-2"},
			"acl=g":                            {"a-2"},
			"acl=Everyone&q=_":                 {"a_1", "b_3"},
			"q=%25":                            {},
			"q=a":                              {"a_1", "a-2"},
			"locked=true":                      {"b_3"},
			"held_by=root&label=pool:x":        {"b_3"},
			"held_by=nobody":                   {},
			"label=' OR 1=1 --":                {},
			"status=Ready&locked=false&acl=ab": {},
		} {
			query, err := url.ParseQuery(query)
			require.NoError(t, err)
			var found labapi.Page[labapi.Host]
			require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/hosts?"+query.Encode(), nil, &found))
			names := []string{}
			for _, h := range found.Items {
				names = append(names, h.Hostname)
			}
			require.Equal(t, want, names, query)
		}
		for _, status := range labapi.HostStatuses {
			require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/hosts?status="+url.QueryEscape(status), nil, nil), status)
		}
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, s.admin, http.MethodGet, "/hosts?status=Redy", nil, nil))
		// Pages follow each other.
		var one labapi.Page[labapi.Host]
		require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/hosts?limit=2", nil, &one))
		require.Len(t, one.Items, 2)
		var two labapi.Page[labapi.Host]
		require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/hosts?limit=2&after="+one.After, nil, &two))
		require.Len(t, two.Items, 1)
		require.Empty(t, two.After)
	})
}

// TestImport: the list says what there should be; the second time nothing is left to do.
func TestImport(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.addHost(t, labapi.HostInput{Hostname: "h1", Labels: []string{"old", "both"}})
		s.addHost(t, labapi.HostInput{Hostname: "gone"})
		s.addHost(t, labapi.HostInput{Hostname: "used"})
		storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 1 WHERE hostname = 'used'")
		in := labapi.HostsInput{Hosts: []labapi.HostInput{
			{Hostname: "h1", Labels: []string{"both", "new"}, Attributes: map[string]string{"rack": "1"}},
			{Hostname: "h2", Labels: []string{"new"}},
		}}
		want := labapi.HostsDifference{
			DryRun: true, Added: []string{"h2"}, Changed: []labapi.HostEdit{{Hostname: "h1", Changes: []string{"label +new", "label -old", "attribute rack=1"}}},
			Removed: []string{"gone"}, Refused: []labapi.HostRefused{{Hostname: "used", Detail: "it is leased"}},
		}
		var got labapi.HostsDifference
		require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodPut, "/hosts?dry_run=true&prune=true", in, &got))
		require.Equal(t, want, got)
		require.Equal(t, 0, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE hostname = 'h2'"))
		want.DryRun = false
		require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodPut, "/hosts?prune=true", in, &got))
		require.Equal(t, want, got)
		events := storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events")
		require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodPut, "/hosts", in, &got))
		require.Equal(t, labapi.HostsDifference{Added: []string{}, Changed: []labapi.HostEdit{}, Removed: []string{}, Refused: []labapi.HostRefused{}, Unchanged: 2}, got)
		require.Equal(t, events, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events"))

		var p problem
		in.Hosts = append(in.Hosts, labapi.HostInput{Hostname: "H2"})
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, s.admin, http.MethodPut, "/hosts", in, &p))
		require.Contains(t, p.Detail, "twice")
	})
}

// TestManyHolds: a result for each host, whatever becomes of the others.
func TestManyHolds(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		alice := s.user(t, "alice", 0)
		s.addHost(t, labapi.HostInput{Hostname: "h1", Labels: []string{"x"}})
		s.addHost(t, labapi.HostInput{Hostname: "h2", Labels: []string{"x"}, Locked: true, LockReason: "root's"})
		var got labapi.Holds
		in := labapi.HoldsInput{Action: labapi.ActionLock, Hosts: []string{"h1", "none", "h2", "h1"}, Reason: "power"}
		require.Equal(t, http.StatusOK, s.call(t, alice, http.MethodPost, "/hosts/holds", in, &got))
		require.Len(t, got.Results, 4)
		require.Equal(t, labapi.HoldResult{Hostname: "h1", Done: true, Changed: true}, got.Results[0])
		require.Equal(t, "/problems/not-found", got.Results[1].Type)
		require.Equal(t, "/problems/locked-by-other", got.Results[2].Type)
		require.Equal(t, labapi.HoldResult{Hostname: "h1", Done: true}, got.Results[3])

		in = labapi.HoldsInput{Action: labapi.ActionUnlock, AllWithLabel: "x"}
		require.Equal(t, http.StatusOK, s.call(t, alice, http.MethodPost, "/hosts/holds", in, &got))
		require.Len(t, got.Results, 2)
		require.Equal(t, 0, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE locked = 1"))
		var p problem
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, alice, http.MethodPost, "/hosts/holds", labapi.HoldsInput{Action: labapi.ActionDrain, Hosts: []string{"h1"}}, &p))
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, alice, http.MethodPost, "/hosts/holds", labapi.HoldsInput{Action: labapi.ActionUnlock}, &p))
	})
}

// TestSelector: hosts are chosen by labels as kubectl chooses, in lists and for holds.
func TestSelector(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		for name, labels := range map[string][]string{"h1": {"board:eve", "pool:bvt"}, "h2": {"board:eve", "broken"}, "h3": {"board:kevin", "pool:cq"}, "h4": {"board:kevin_2", "100%"}, "h5": nil} {
			s.addHost(t, labapi.HostInput{Hostname: name, Labels: labels})
		}
		for text, want := range map[string][]string{
			"board=eve": {"h1", "h2"}, "board=eve,!broken": {"h1"}, "board!=eve": {"h3", "h4", "h5"}, "board in (eve, kevin)": {"h1", "h2", "h3"}, "board notin (eve,kevin)": {"h4", "h5"},
			"board": {"h1", "h2", "h3", "h4"}, "!board": {"h5"}, "broken": {"h2"}, "board:eve": {"h1", "h2"}, "board=kevin": {"h3"}, "100%": {"h4"}, "10%": nil, "b_ard": nil, "none": nil, "board=eve,board=kevin": nil,
		} {
			var got labapi.Page[labapi.Host]
			require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/hosts?selector="+url.QueryEscape(text), nil, &got), text)
			var names []string
			for _, h := range got.Items {
				names = append(names, h.Hostname)
			}
			slices.Sort(names)
			require.Equal(t, want, names, text)
		}
		var p problem
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, s.admin, http.MethodGet, "/hosts?selector="+url.QueryEscape("board eve"), nil, &p))
		require.Contains(t, p.Detail, "board in (eve,kevin)")

		var done labapi.Holds
		require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodPost, "/hosts/holds", labapi.HoldsInput{Action: labapi.ActionLock, Selector: "board=eve,!broken", Reason: "x"}, &done))
		require.Equal(t, []labapi.HoldResult{{Hostname: "h1", Done: true, Changed: true}}, done.Results)
		for _, in := range []labapi.HoldsInput{
			{Action: labapi.ActionUnlock, Selector: "board=eve", Hosts: []string{"h1"}}, {Action: labapi.ActionUnlock, Selector: "board=eve", AllWithLabel: "board:eve"}, {Action: labapi.ActionUnlock, Selector: "=eve"},
		} {
			require.Equal(t, http.StatusUnprocessableEntity, s.call(t, s.admin, http.MethodPost, "/hosts/holds", in, &p), in)
		}
		require.Equal(t, http.StatusNotFound, s.call(t, s.admin, http.MethodPost, "/hosts/holds", labapi.HoldsInput{Action: labapi.ActionUnlock, Selector: "none"}, &p))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE locked = 1"))
	})
}

// TestWhatChangesHostsIsInTheirHistory: also what is said of a label or an ACL group.
func TestWhatChangesHostsIsInTheirHistory(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		for _, name := range []string{"h1", "h2", "h3"} {
			s.addHost(t, labapi.HostInput{Hostname: name, Labels: []string{"old:" + name[:1]}})
		}
		s.addHost(t, labapi.HostInput{Hostname: "other"})
		require.Equal(t, http.StatusNoContent, s.change(t, s.admin, http.MethodDelete, "/labels/old:h?from_hosts=true", "*", nil, nil))
		require.Equal(t, http.StatusCreated, s.call(t, s.admin, http.MethodPost, "/acl-groups", labapi.ACLGroupInput{Name: "team", Hosts: []string{"h1", "h2"}}, nil))
		require.Equal(t, http.StatusOK, s.change(t, s.admin, http.MethodPatch, "/acl-groups/team", "*", labapi.ACLGroupPatch{RemoveHosts: []string{"h1"}}, nil))
		require.Equal(t, http.StatusNoContent, s.change(t, s.admin, http.MethodDelete, "/acl-groups/team", "*", nil, nil))
		for name, want := range map[string][]string{"h1": {"ACL group -team", "ACL group +team", "label -old:h"}, "h2": {"ACL group -team", "ACL group +team", "label -old:h"}, "h3": {"label -old:h"}, "other": nil} {
			var history labapi.Page[labapi.Event]
			require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/hosts/"+name+"/history", nil, &history))
			var got []string
			for _, e := range history.Items {
				if e.Kind == "host.changed" {
					require.Equal(t, "root", e.Who)
					got = append(got, e.Reason)
				}
			}
			require.Equal(t, want, got, name)
		}
	})
}
