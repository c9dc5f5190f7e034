package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

func suiteCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "suite", Short: "Submit, list and abort suites",
		Long: `A suite is the parent of jobs, and may have a guaranteed minimum of hosts: as
long as its jobs wait, they hold at least so many.`,
		Example: "  hostsched suite submit suite.yaml",
	}, suiteSubmitCommand(), suiteListCommand(), suiteShowCommand(), suiteAbortCommand())
}

func suiteSubmitCommand() *cobra.Command {
	var conn connection
	var out output
	var key string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "submit FILE", Short: "Submit a suite with its jobs, in one step", Args: exactly("FILE"),
		Long: `Submit the suite of a file in YAML or JSON, - for standard input, and print its id.
Either the suite is there with all its jobs, or nothing is.`,
		Example: "  hostsched suite submit suite.yaml --dry-run\n  hostsched suite submit suite.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			suite, err := jobspec.ReadSuite(contentTypeOf(args[0]), text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				made, err := submit[labapi.Suite](ctx, client, "/suites", dryRun, key, suite)
				if err != nil {
					return err
				}
				return out.write(cmd, made, func(w io.Writer) error { return submittedText(w, labapi.Submitted{ID: made.ID, Explain: made.Explain}) })
			})
		},
	}
	conn.bind(cmd)
	out.bind(cmd, outputYAML, outputName)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what the planner would do, and submit nothing")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "a text of your own: submits with the same one are one suite, for a day")
	return cmd
}

func suiteDisplay() *display[labapi.Suite] {
	return newDisplay(func(s labapi.Suite) string { return strconv.FormatInt(s.ID, 10) },
		column[labapi.Suite]{title: "ID", cell: func(s labapi.Suite) any { return s.ID }},
		column[labapi.Suite]{title: "NAME", cell: func(s labapi.Suite) any { return s.Name }},
		column[labapi.Suite]{title: "OWNER", cell: func(s labapi.Suite) any { return s.Owner }},
		column[labapi.Suite]{title: "PRIORITY", wide: true, cell: func(s labapi.Suite) any { return s.Priority }},
		column[labapi.Suite]{title: "MINIMUM", cell: func(s labapi.Suite) any { return s.Minimum }},
		column[labapi.Suite]{title: "HOLDS", cell: func(s labapi.Suite) any { return s.Holds }},
		column[labapi.Suite]{title: "WAITING", cell: func(s labapi.Suite) any { return s.Waiting }},
		column[labapi.Suite]{title: "PASSED", cell: func(s labapi.Suite) any { return s.Passed }},
		column[labapi.Suite]{title: "FAILED", cell: func(s labapi.Suite) any { return s.Failed }},
		column[labapi.Suite]{title: "ABORTED", cell: func(s labapi.Suite) any { return s.Aborted }},
		column[labapi.Suite]{title: "CREATED", wide: true, cell: func(s labapi.Suite) any { return utc(s.Created) }},
	)
}

func suiteListCommand() *cobra.Command {
	var conn connection
	var limit int
	show := suiteDisplay()
	cmd := &cobra.Command{
		Use: "list", Short: "List suites, the newest first", Args: noArgs, Example: "  hostsched suite list --watch",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return show.list(ctx, cmd, func(ctx context.Context) ([]labapi.Suite, error) {
					return labclient.List[labapi.Suite](ctx, client, "/suites", nil, limit)
				})
			})
		},
	}
	conn.bind(cmd)
	show.bindWatch(cmd)
	bindLimit(cmd, &limit)
	return cmd
}

func suitePath(id int64, more ...string) string {
	return labclient.Path(append([]string{"suites", strconv.FormatInt(id, 10)}, more...)...)
}

func suiteShowCommand() *cobra.Command {
	show := suiteDisplay()
	return showCommand(&cobra.Command{Use: "show ID", Short: "Show what a suite holds, and what became of its jobs", Example: "  hostsched suite show 7 -o yaml"},
		nil, pathOfID(suitePath), show.bind, show.one)
}

func suiteAbortCommand() *cobra.Command {
	return abortCommand("suite", "Abort suites", "with all their jobs", nil, nil, func(ctx context.Context, client *labclient.Client, id int64) (string, int, error) {
		var s labapi.Suite
		err := client.Get(ctx, suitePath(id), nil, &s)
		return s.Owner, s.Holds, err
	})
}
