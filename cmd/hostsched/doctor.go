package main

import (
	"io"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
)

func configCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "config", Short: "Check a configuration",
		Example: "  hostsched config check /etc/hostsched.yaml",
	}, configCheckCommand())
}

func configCheckCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	cmd := &cobra.Command{
		Use: "check [FILE]", Short: "Check a configuration and all that it names, and write nothing",
		Long: `Check every key of the configuration, the files with passwords and certificates and
until when these are valid, the addresses, etcd, all its members and the rights
there, the databases: their versions, schema, rights, guard and clocks, and whether the mail
server, metadata.url, tracing.endpoint and the identity provider answer. Nothing is written.

Without FILE the configuration is that of the other commands: --config, else
HOSTSCHED_CONFIG, else /etc/hostsched.yaml.

Exit codes: 0 all is well, or there are warnings only; 1 something failed; 2 the
configuration itself cannot be used.`,
		Example: `  hostsched config check /etc/hostsched.yaml
  hostsched config check --data-dir lab
  hostsched config check -o json`,
		Args: optional("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if err := cmd.Flags().Set("config", args[0]); err != nil {
					return err
				}
			}
			if err := cfg.Load(); err != nil {
				return err
			}
			up := ops.NewCheckup(cfg)
			up.Configuration(cmd.Context())
			return showCheckup(cmd, &out, up)
		},
	}
	cfg.Bind(cmd.Flags(), config.AllGroups)
	out.bind(cmd)
	return cmd
}

func doctorCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong with a cluster that runs", Args: noArgs,
		Long: `Look at all that 'config check' looks at, and besides at the servers and shards of
the cluster that runs: who leads, who could take over, which versions run, whose
clock is off, whose certificate expires, who does not hear whom, whether the fence
of each shard belongs to this etcd, and whether the database contradicts itself.
Nothing is written.

Exit codes: 0 all is well, or there are warnings only; 1 something failed; 2 the
configuration cannot be used.`,
		Example: "  hostsched doctor --config /etc/hostsched.yaml\n  hostsched doctor --data-dir lab",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := loadLab(cfg); err != nil {
				return err
			}
			return withEtcd(cfg, func(client *clientv3.Client) error {
				up, err := ops.Doctor(cmd.Context(), cfg, client)
				if err != nil {
					return err
				}
				return showCheckup(cmd, &out, up)
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.AllGroups)
	out.bind(cmd)
	return cmd
}

// showCheckup prints the results, and fails if any of them did.
func showCheckup(cmd *cobra.Command, out *output, up *ops.Checkup) error {
	err := out.write(cmd, up, func(w io.Writer) error {
		t := newTable(w)
		for _, r := range up.Results {
			t.row(r.Result, r.Check, r.Detail)
		}
		return t.flush()
	})
	if err == nil && up.Failed() > 0 {
		err = coded{code: exitFailed}
	}
	return err
}
