package ops

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/web"
)

// AskEtcdMembers lists the members of etcd and asks each of them whether it is there. The list is
// the one that a single member knows, which it tells also while etcd has no leader.
func AskEtcdMembers(ctx context.Context, c *config.Config, client *clientv3.Client) ([]EtcdMember, error) {
	members, err := etcdMembers(ctx, client, clientv3.WithSerializable())
	if err != nil {
		return nil, c.EtcdConnection().Explain(ctx, err)
	}
	var urls []string
	for _, m := range members {
		urls = append(urls, m.ClientURLs...)
	}
	urls = slices.Concat(c.Etcd.Endpoints, urls)
	slices.Sort(urls)
	urls = slices.Compact(urls)
	there := map[uint64]bool{}
	silent := map[string]string{} // why, by URL
	for i, a := range inParallel(urls, func(u string) etcdAnswer { return askEtcdMember(ctx, client, u) }) {
		if a.err == nil {
			there[a.id] = true
			continue
		}
		silent[urls[i]] = a.err.Error()
	}
	keeper, fault := certs.Open(c.EtcdPeerFiles())
	return inParallel(members, func(m EtcdMember) EtcdMember {
		switch {
		case !m.Started:
		case there[m.id]:
			m.Answers = true
		case !slices.ContainsFunc(m.ClientURLs, servesOneMachine):
			m.Error = whySilent(m.ClientURLs, silent)
		case fault != nil:
			m.Error = fault.Error()
		default:
			m.Error = askEtcdPeer(ctx, web.Client{Certs: keeper}, m.PeerURLs)
			m.Answers = m.Error == ""
		}
		return m
	}), nil
}

// etcdAnswer is which member answers at a URL.
type etcdAnswer struct {
	id  uint64
	err error
}

func askEtcdMember(ctx context.Context, client *clientv3.Client, u string) etcdAnswer {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	status, err := client.Status(ctx, u)
	if err != nil {
		return etcdAnswer{err: err}
	}
	return etcdAnswer{id: status.Header.MemberId}
}

// servesOneMachine tells whether a client URL is only for the machine of the member: on another one
// it is another member's, or nobody's.
func servesOneMachine(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "unix" || config.Loopback(u.Host))
}

func whySilent(urls []string, silent map[string]string) string {
	var texts []string
	for _, u := range urls {
		texts = append(texts, u+": "+cmp.Or(silent[u], "another member answers"))
	}
	return strings.Join(texts, "; ")
}

// askEtcdPeer asks a member at the addresses that it has for the others, and says why none answers.
func askEtcdPeer(ctx context.Context, ask web.Client, urls []string) string {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	var texts []string
	for _, u := range urls {
		res, err := ask.Get(ctx, u, "/version")
		if err == nil {
			_ = res.Body.Close() // that there is an answer is all
			return ""
		}
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

// EtcdQuorum says how many of the members may fail yet. Spare is that number, less than 0 if etcd
// cannot decide anything.
func EtcdQuorum(members []EtcdMember) (text string, spare int) {
	voting, answer := 0, 0
	for _, m := range members {
		if m.Voting && m.Started {
			voting++
			if m.Answers {
				answer++
			}
		}
	}
	needed := voting/2 + 1
	spare = answer - needed
	text = fmt.Sprintf("%d of %d voting members answer, and %d must", answer, voting, needed)
	switch {
	case voting == 1 && spare == 0:
		text = "the only voting member answers; without it nobody leads"
	case spare < 0:
		text += ": etcd decides nothing and nobody leads; start those that do not answer"
	case spare == 0:
		text += ": one more loss ends the lab, because nobody leads any more"
	case spare == 1:
		text += ": one more may be lost"
	default:
		text += fmt.Sprintf(": %d more may be lost", spare)
	}
	return text, spare
}
