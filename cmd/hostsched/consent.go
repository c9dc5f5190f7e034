package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// consent is what a command that changes something asks for: a yes, and where
// somebody will ask for it later, a reason.
type consent struct {
	yes, needsReason bool
	reason           string
}

func (c *consent) bind(cmd *cobra.Command, needsReason bool) {
	c.needsReason = needsReason
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do it without asking")
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit record")
}

// ask makes sure that the change is meant: by --yes, or by asking a person.
func (c *consent) ask(cmd *cobra.Command, what string) error {
	if c.needsReason && strings.TrimSpace(c.reason) == "" {
		return fmt.Errorf("%w: say with --reason why to %s; it goes into the audit record", errUsage, what)
	}
	if c.yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("%w: say --yes to %s", errUsage, what)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s? [y/N] ", what)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "y") {
		return fmt.Errorf("nothing was changed: %s was not confirmed", what)
	}
	return nil
}

// exactly demands these arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%w: %s is missing; see '%s --help'", errUsage, names[len(args)], cmd.CommandPath())
		}
		return noArgs(cmd, args[len(names):])
	}
}
