package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/wneessen/go-mail"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// Config says where mail goes.
type Config struct {
	// To are the receivers; without any nothing is sent.
	To   []string
	From string
	// Host and Port are the SMTP server's.
	Host string
	Port int
	// User is optional; Password is asked before every mail, if there is a user.
	User     string
	Password func() (string, error)
	// Interval is the shortest time between two mails. What happens meanwhile is
	// collected into the next.
	Interval time.Duration
	// Server names this replica in the subject.
	Server string
}

const (
	// queueLength bounds what waits to be collected; more is counted and dropped.
	queueLength = 256
	// maxEvents bounds one mail.
	maxEvents   = 50
	sendTimeout = 10 * time.Second
)

// Mailer implements replica.Observer.
type Mailer struct {
	replica.Silent

	cfg    Config
	log    hclog.Logger
	events chan string
	client *mail.Client

	mu sync.Mutex
	// told is what the latest check of each shard found.
	told map[shard.Name]string
}

// New returns a Mailer; Run sends.
func New(cfg Config, log hclog.Logger) (*Mailer, error) {
	opts := []mail.Option{mail.WithPort(cfg.Port), mail.WithTLSPolicy(mail.TLSOpportunistic), mail.WithTimeout(sendTimeout)}
	if cfg.User != "" {
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(cfg.User))
	}
	client, err := mail.NewClient(cfg.Host, opts...)
	if err != nil {
		return nil, fmt.Errorf("mail server %s:%d: %w", cfg.Host, cfg.Port, err)
	}
	m := &Mailer{cfg: cfg, log: log, events: make(chan string, queueLength), client: client, told: make(map[shard.Name]string)}
	if _, err := m.message(nil); err != nil {
		return nil, err
	}
	return m, nil
}

// Run sends what is queued until ctx ends, and then what is left.
func (m *Mailer) Run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case first := <-m.events:
			m.deliver(ctx, first)
			wait := time.NewTimer(m.cfg.Interval)
			select {
			case <-ctx.Done():
			case <-wait.C:
			}
			wait.Stop()
		}
	}
	select {
	case first := <-m.events:
		m.deliver(ctx, first)
	default:
	}
}

// deliver sends one mail with everything that is queued.
func (m *Mailer) deliver(ctx context.Context, first string) {
	events := []string{first}
	for len(events) < maxEvents {
		select {
		case e := <-m.events:
			events = append(events, e)
			continue
		default:
		}
		break
	}
	msg, err := m.message(events)
	if err == nil {
		err = m.login()
	}
	if err == nil {
		// Also when the process is stopping: that is when it matters.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
		defer cancel()
		err = m.client.DialAndSendWithContext(ctx, msg)
	}
	if err != nil {
		m.log.Error("sending a notification", "to", m.cfg.To, "events", len(events), "error", err)
	}
}

// login gives the client the password that counts now.
func (m *Mailer) login() error {
	if m.cfg.User == "" {
		return nil
	}
	password, err := m.cfg.Password()
	m.client.SetPassword(password)
	return err
}

func (m *Mailer) message(events []string) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(m.cfg.From), msg.To(m.cfg.To...)); err != nil {
		return nil, fmt.Errorf("mail addresses: %w", err)
	}
	subject := "hostsched on " + m.cfg.Server
	if len(events) > 0 {
		subject += ": " + firstLine(events[0])
	}
	if len(events) > 1 {
		subject += fmt.Sprintf(" (and %d more)", len(events)-1)
	}
	msg.Subject(subject)
	msg.SetBodyString(mail.TypeTextPlain, strings.Join(events, "\n\n")+"\n")
	return msg, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// note queues an event, or drops it if nobody collects them.
func (m *Mailer) note(format string, args ...any) {
	text := time.Now().UTC().Format(time.RFC3339) + " " + fmt.Sprintf(format, args...)
	select {
	case m.events <- text:
	default:
		m.log.Warn("notification dropped: too many are waiting", "event", firstLine(text))
	}
}

// Leading implements replica.Observer.
func (m *Mailer) Leading(name shard.Name, token int64, takeOver time.Duration) {
	m.note("failover: %s leads shard %s with token %d, takeover took %v", m.cfg.Server, name, token, takeOver.Round(time.Millisecond))
}

// Checked implements replica.Observer. What was found is told once, until
// something else is found or nothing any more.
func (m *Mailer) Checked(name shard.Name, f admin.Findings) {
	var b strings.Builder
	for _, kind := range f.Kinds() {
		for _, x := range kind.All {
			fmt.Fprintf(&b, "\n  ")
			if x.Host != 0 {
				fmt.Fprintf(&b, "host %s (%d) ", x.Hostname, x.Host)
			}
			b.WriteString(x.Text)
			if x.Entry != 0 {
				fmt.Fprintf(&b, ": entry %d of job %d", x.Entry, x.Job)
			}
		}
	}
	m.mu.Lock()
	told := m.told[name]
	m.told[name] = b.String()
	m.mu.Unlock()
	if b.Len() == 0 || b.String() == told {
		return
	}
	kind := "inconsistencies"
	if len(f.Overlapping) > 0 {
		kind = "overlapping jobs"
	}
	m.note("%s in shard %s:%s", kind, name, b.String())
}

// Failed implements replica.Observer.
func (m *Mailer) Failed(name shard.Name, err error) {
	if errors.Is(err, store.ErrFenced) {
		m.note("fenced: %v", err)
		return
	}
	m.note("uncaught error in a tick of shard %s: %v", name, err) // that of a panic has the stack of where it happened
}
