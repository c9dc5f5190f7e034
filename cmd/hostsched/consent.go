package main

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/shard"
)

// consent is what a command that changes something asks for: a yes, and where
// somebody will ask for it later, a reason.
type consent struct {
	yes, needsReason bool
	reason           string
	// record is where the reason goes, the audit record if empty.
	record string
}

func (c *consent) bind(cmd *cobra.Command, needsReason bool) {
	c.needsReason = needsReason
	c.bindYes(cmd)
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the "+c.recordName())
}

func (c *consent) recordName() string {
	if c.record == "" {
		return "audit record"
	}
	return c.record
}

// bindYes is bind for what is not in the database, and so not in its audit records.
func (c *consent) bindYes(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do it without asking")
}

// ask makes sure that the change is meant: by --yes, or by asking a person.
func (c *consent) ask(cmd *cobra.Command, what string) error {
	if c.needsReason && strings.TrimSpace(c.reason) == "" {
		return fmt.Errorf("%w: say with --reason why to %s; it goes into the %s", errUsage, what, c.recordName())
	}
	if err := shard.Fits("--reason", c.reason, shard.MaxReason); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if c.yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("%w: say --yes to %s", errUsage, what)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s? [y/N] ", shard.Printable(what))
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "y") {
		return fmt.Errorf("nothing was changed: %s was not confirmed", what)
	}
	return nil
}

// by says who gave the consent, and why.
func (c *consent) by() ops.By { return ops.By{Who: whoami(), Reason: strings.TrimSpace(c.reason)} }

func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
