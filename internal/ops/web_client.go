package ops

import (
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/web"
)

// webClient asks replicas as a configuration says. Whoever may not read the key of the
// replica's certificate asks without a certificate, which is enough unless
// tls.require_client_cert is set.
func webClient(c *config.Config) web.Client {
	out := web.Client{Scheme: "http"}
	files := c.CertificateFiles()
	if files.Cert != "" {
		out.Scheme = "https"
	}
	keeper, err := certs.Open(files)
	if err != nil {
		// What is wrong with the authorities, too, shows when a replica is asked.
		keeper, _ = certs.Open(certs.Files{CA: files.CA})
	}
	out.Certs = keeper
	return out
}
