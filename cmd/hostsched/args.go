package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// noArgs refuses arguments that would otherwise be ignored. Where a command has
// subcommands, the argument was meant to be one of them.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !cmd.HasAvailableSubCommands():
		return fmt.Errorf("%w: unknown argument %q; see '%s --help'", errUsage, args[0], cmd.CommandPath())
	}
	hint := ""
	switch near := nearest(cmd, args[0]); {
	case len(near) > maxHints:
		// Many nouns have such a word; this one has others.
		hint = "; it has " + strings.Join(subcommands(cmd), ", ")
	case len(near) > 0:
		hint = " (did you mean '" + strings.Join(near, "' or '") + "'?)"
	}
	return fmt.Errorf("%w: there is no command '%s %s'%s; see '%s --help'", errUsage, cmd.CommandPath(), args[0], hint, cmd.CommandPath())
}

// maxHints is from how many commands somebody still finds the one that was meant.
const maxHints = 3

// subcommands are the words that may follow a command.
func subcommands(cmd *cobra.Command) []string {
	var out []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			out = append(out, sub.Name())
		}
	}
	return out
}

// nearest finds the commands that somebody may have meant: among those below cmd,
// or else anywhere, because a word may belong to another noun.
func nearest(cmd *cobra.Command, word string) []string {
	if out := similar(cmd, word); len(out) > 0 {
		return out
	}
	all := newRoot()
	out := similar(all, word)
	for _, sub := range all.Commands() {
		out = append(out, similar(sub, word)...)
	}
	return out
}

// similar lists the subcommands of cmd that begin with a word or nearly are it.
func similar(cmd *cobra.Command, word string) []string {
	// Cobra sets its usual distance only where it looks by itself.
	const usualDistance = 2
	cmd.SuggestionsMinimumDistance = usualDistance
	var out []string
	for _, name := range cmd.SuggestionsFor(word) {
		out = append(out, cmd.CommandPath()+" "+name)
	}
	return out
}

// exactly demands these arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%w: %s is missing; see '%s --help'", errUsage, names[len(args)], cmd.CommandPath())
		}
		for i, name := range names {
			if err := notEmpty(cmd, name, args[i]); err != nil {
				return err
			}
		}
		return noArgs(cmd, args[len(names):])
	}
}

// notEmpty refuses what an unset variable of a script becomes.
func notEmpty(cmd *cobra.Command, name, arg string) error {
	if arg == "" {
		return fmt.Errorf("%w: %s is empty; see '%s --help'", errUsage, name, cmd.CommandPath())
	}
	return nil
}

// optional allows this argument, and no other.
func optional(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return exactly(name)(cmd, args)
	}
}

// shardArg is the name of a shard as somebody typed it, empty if nobody did.
func shardArg(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// group is a command that only has subcommands.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.Args, cmd.RunE = noArgs, showHelp
	cmd.AddCommand(subcommands...)
	return cmd
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// refuseUnknown makes cobra's own commands, help and completion, refuse words
// that they do not know. They print something and succeed otherwise, and a script
// with a mistake in it believes that it worked.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			group(cmd)
			for _, shell := range cmd.Commands() {
				shell.Args = noArgs
			}
		case "help":
			cmd.Run, cmd.RunE = nil, helpOn
		}
	}
}

// helpOn shows the help of the command that the arguments name.
func helpOn(cmd *cobra.Command, args []string) error {
	target, rest, err := cmd.Root().Find(args)
	if err != nil {
		return err
	}
	if err := noArgs(target, rest); err != nil {
		return err
	}
	return target.Help()
}
