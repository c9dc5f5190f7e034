package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

func eventCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "event", Short: "See what happens in the lab",
		Long: `The journal says what people and leaders did: every assignment, release, start,
stop, lock, drain and takeover, by whom and why.`,
		Example: "  hostsched event watch --host eve-1",
	}, eventWatchCommand())
}

func eventWatchCommand() *cobra.Command {
	var conn connection
	var out output
	var host, kind, after string
	var job int64
	cmd := &cobra.Command{
		Use: "watch", Short: "Show what happens, as it happens", Args: noArgs,
		Long: `Show the events of the journal as they happen, a line each, until Ctrl-C. When a
server goes away, the next one is asked for what came after the last event.`,
		Example: `  hostsched event watch
  hostsched event watch --job 7 -o json | jq .kind`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if after != "" {
				if _, err := parseID(after); err != nil && after != "0" {
					return fmt.Errorf("%w; --after is the id of an event", err)
				}
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				show := func(e labapi.Event) error { return showEvent(cmd, out, e) }
				away := func(err error) {
					fmt.Fprintf(cmd.ErrOrStderr(), "hostsched: %s; trying again\n", printable(oneLine(err)))
				}
				return client.Follow(ctx, query("host", host, "kind", kind, "job", idText(job)), after, show, away)
			})
		},
	}
	conn.bind(cmd)
	out.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&host, "host", "", "only those of this host")
	f.StringVar(&kind, "kind", "", "only those of this kind, like host.assigned")
	f.StringVar(&after, "after", "", "begin after the event with this id, 0 for the first one that is kept")
	bind(cmd, &job, "job", 0, 1, maxID, "only those of this job")
	completeLab(cmd, &conn, "host", hostsOf)
	return cmd
}

// showEvent prints an event in one line, also as JSON.
func showEvent(cmd *cobra.Command, out output, e labapi.Event) error {
	if out.format == outputJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(e)
	}
	return line(cmd.OutOrStdout(), "%s", eventText(e))
}

func eventText(e labapi.Event) string {
	text := fmt.Sprintf("%s  %s", utc(e.At), e.Kind)
	for _, part := range []struct{ name, value string }{
		{"shard", e.Shard}, {"host", e.Host}, {"job", idText(e.Job)}, {"entry", idText(e.Entry)}, {"", e.Subject}, {"by", e.Who},
	} {
		if part.value != "" {
			text += "  " + part.name
			if part.name != "" {
				text += " "
			}
			text += part.value
		}
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}
