package app

import (
	"context"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/config"
)

// certificateInterval is how often the certificate is looked at although nobody connects.
const certificateInterval = 10 * time.Second

// openCertificate reads the certificate with which the replica answers, if there is one.
func (a *App) openCertificate() (err error) {
	if a.certs, err = certs.Open(a.cfg.CertificateFiles()); err != nil {
		return fmt.Errorf("%w: tls: %w", config.ErrConfig, err)
	}
	if !a.certs.Answers() {
		return nil
	}
	a.server.TLSConfig = a.certs.Server()
	a.metrics.Certificate(a.certificate)
	a.reporters = append(a.reporters, a.watchCertificate)
	return nil
}

func (a *App) certificate() *certs.State { return a.certs.State(time.Now()) }

// LookAtFiles makes the replica look at the files of its certificate now, and say in the log
// what it finds. They are read for every connection in any case.
func (a *App) LookAtFiles() {
	select {
	case a.lookAtFiles <- struct{}{}:
	default:
	}
}

// watchCertificate says in the log when the certificate is replaced, and what is wrong
// with it.
func (a *App) watchCertificate(ctx context.Context) {
	tick := time.NewTicker(certificateInterval)
	defer tick.Stop()
	faults := recurring.New(a.log)
	var until time.Time
	for ctx.Err() == nil {
		st := a.certificate()
		if !st.Until.Equal(until) {
			a.log.Info("answering with this certificate", "file", st.File, "subject", st.Subject, "valid until", st.Until)
			until = st.Until
		}
		if st.Fault != "" {
			faults.Warn("something is wrong with the certificate", "reason", st.Fault)
		} else {
			faults.Over()
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-a.lookAtFiles:
		}
	}
}
