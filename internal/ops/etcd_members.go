package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/embedetcd"
	"github.com/hostsched/hostsched/store/admin"
)

// memberTimeout bounds a question or a change to the members of etcd.
const memberTimeout = 5 * time.Second

// A change of the members is tried again for so long while etcd is not ready for it.
const (
	healthyTimeout = 15 * time.Second
	healthyPause   = 200 * time.Millisecond
)

// EtcdMember is a member of the etcd that the replicas run themselves.
type EtcdMember struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	PeerURLs []string `json:"peer_urls"`
	// ClientURLs are empty for one that was added and has never run.
	ClientURLs []string `json:"client_urls"`
	// Started is false for one that was added and has never run.
	Started bool `json:"started"`
	// Voting is false for one that still gets the others' data.
	Voting bool `json:"voting"`
	// Answers tells whether it answered when it was asked; Error says why not.
	Answers bool   `json:"answers"`
	Error   string `json:"error,omitempty"`

	id uint64
}

// etcdMembers lists the members, by default as most of them know it.
func etcdMembers(ctx context.Context, client *clientv3.Client, how ...clientv3.OpOption) ([]EtcdMember, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	list, err := client.MemberList(ctx, how...)
	if err != nil {
		return nil, fmt.Errorf("list the members of etcd at %v: %w", client.Endpoints(), err)
	}
	out := []EtcdMember{}
	for _, m := range list.Members {
		out = append(out, EtcdMember{ID: fmt.Sprintf("%x", m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: append([]string{}, m.ClientURLs...), Started: m.Name != "", Voting: !m.IsLearner, id: m.ID})
	}
	return out, nil
}

// AddEtcdMember adds a member, which votes as soon as it has the others' data: until then
// the others decide without it. It returns the setting etcd.initial_cluster of the new one, also
// with an error if that is about the record alone. The caller has checked name and peerURL.
func (l Lab) AddEtcdMember(ctx context.Context, client *clientv3.Client, name, peerURL string, by By) (initialCluster []string, err error) {
	if err := admin.FitsAudit(by.Who, name, memberDetail(peerURL, by)); err != nil {
		return nil, err
	}
	members, err := etcdMembers(ctx, client)
	if err != nil {
		return nil, err
	}
	if initialCluster, err = mayAdd(members, name, peerURL); err != nil {
		return nil, err
	}
	err = whenHealthy(ctx, func(ctx context.Context) error {
		_, err := client.MemberAddAsLearner(ctx, []string{peerURL})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("add member %s to etcd at %v: %w", name, client.Endpoints(), err)
	}
	return initialCluster, l.auditMember(ctx, by, "etcd add", name, memberDetail(peerURL, by))
}

// auditMember records what was done to a member.
func (l Lab) auditMember(ctx context.Context, by By, action, name, detail string) error {
	if err := l.Main.Audit(ctx, by.Who, action, name, detail); err != nil {
		return fmt.Errorf("%s %s was done, but is not on record: %w", action, name, err)
	}
	return nil
}

func memberDetail(peerURLs string, by By) string {
	return strings.TrimSpace(peerURLs + " " + by.Reason)
}

// mayAdd refuses a member that would not fit to the others, and returns all with the new one.
func mayAdd(members []EtcdMember, name, peerURL string) (initialCluster []string, err error) {
	for _, m := range members {
		switch {
		case !m.Started:
			return nil, fmt.Errorf("%w: the member at %s was added before and has never run; start it, or remove it with 'hostsched etcd remove %s'", admin.ErrInput, strings.Join(m.PeerURLs, ","), m.ID)
		case m.Name == name, slices.Contains(m.PeerURLs, peerURL):
			return nil, fmt.Errorf("%w: there is a member %s at %s already", admin.ErrInput, m.Name, strings.Join(m.PeerURLs, ","))
		case embedetcd.IsLonely(m.PeerURLs):
			return nil, fmt.Errorf("%w: member %s has no port for other members; start that server with etcd.initial_cluster first, see docs/growing.md", admin.ErrInput, m.Name)
		case !m.Voting:
			return nil, fmt.Errorf("member %s at %s still gets the others' data, and etcd takes one new member at a time: wait until 'hostsched etcd list' shows that it votes, and try again; or remove it with 'hostsched etcd remove %s'", m.Name, strings.Join(m.PeerURLs, ","), m.Name)
		}
		for _, u := range m.PeerURLs {
			initialCluster = append(initialCluster, m.Name+"="+u)
		}
	}
	return append(initialCluster, name+"="+peerURL), nil
}

// RemoveEtcdMember removes a member for good, by its name or its id. Etcd refuses what would
// leave it without a majority. An error with a member is about the record alone.
func (l Lab) RemoveEtcdMember(ctx context.Context, client *clientv3.Client, nameOrID string, by By) (EtcdMember, error) {
	members, err := etcdMembers(ctx, client)
	if err != nil {
		return EtcdMember{}, err
	}
	i := slices.IndexFunc(members, func(m EtcdMember) bool { return m.Name == nameOrID || m.ID == nameOrID })
	switch {
	case i < 0:
		return EtcdMember{}, fmt.Errorf("%w: etcd has no member %q; 'hostsched etcd list' shows all", admin.ErrInput, nameOrID)
	case len(members) == 1:
		return EtcdMember{}, fmt.Errorf("%w: %s is the only member of etcd", admin.ErrInput, nameOrID)
	}
	gone := members[i]
	subject, detail := cmp.Or(gone.Name, gone.ID), memberDetail(strings.Join(gone.PeerURLs, ","), by)
	if err := admin.FitsAudit(by.Who, subject, detail); err != nil {
		return EtcdMember{}, err
	}
	err = whenHealthy(ctx, func(ctx context.Context) error {
		_, err := client.MemberRemove(ctx, gone.id)
		return err
	})
	if err != nil {
		return EtcdMember{}, fmt.Errorf("remove member %s from etcd at %v: %w", nameOrID, client.Endpoints(), err)
	}
	return gone, l.auditMember(ctx, by, "etcd remove", subject, detail)
}

// whenHealthy changes the members, and waits if etcd is not ready for it: for some seconds
// after members met or lost each other it refuses to.
func whenHealthy(ctx context.Context, change func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	for {
		err := change(ctx)
		if !errors.Is(err, rpctypes.ErrUnhealthy) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: its members have not been connected for long enough; see 'hostsched etcd list', start those that are down, or remove those that are lost", err)
		case <-time.After(healthyPause):
		}
	}
}
