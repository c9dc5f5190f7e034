package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/durations"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// minReserve is the shortest time: the servers count in minutes.
const minReserve = time.Minute

func hostReserveCommand() *cobra.Command {
	var conn connection
	var w wanted
	var length time.Duration
	var reason string
	cmd := &cobra.Command{
		Use: "reserve [HOST...]", Short: "Get hosts for yourself for some time",
		Long: `Wait until the hosts are free, or as many as --count with the labels, and keep them for
yourself. At the end of the time they are cleaned and given back; 'hostsched host
release' does that earlier, 'hostsched host extend' later. Ctrl-C while it waits gives up.`,
		Example: `  hostsched host reserve eve-1 --for 2h --reason 'bisect the boot failure'
  hostsched host reserve -l board:eve --for 30m --reason demo`,
		RunE: func(cmd *cobra.Command, args []string) error {
			w.hosts = args
			if length == 0 || reason == "" {
				return fmt.Errorf("%w: say with --for how long, like 2h, and with --reason why", errUsage)
			}
			w.name = reason
			return reserve(cmd, &conn, &w, length)
		},
	}
	conn.bind(cmd)
	w.bind(cmd, &conn)
	bind(cmd, &length, "for", 0, minReserve, jobspec.LongestReserve, "for how long, like 2h or 2d; at most "+durations.Text(jobspec.LongestReserve))
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who want the hosts, too")
	cmd.ValidArgsFunction = completeMany(&conn, hostsOf)
	return cmd
}

func reserve(cmd *cobra.Command, conn *connection, w *wanted, length time.Duration) error {
	job, err := w.spec(labapi.OwnRun)
	if err != nil {
		return err
	}
	job.Own, job.MaxRuntime = labapi.OwnReserve, length.String()
	claims, err := newClaimant(cmd, conn)
	if err != nil {
		return err
	}
	claimed, _, err := claims.get(cmd, w, job)
	if err != nil {
		return err
	}
	var run labapi.Run
	if err := claims.lab.Get(cmd.Context(), runPath(claimed.Run), nil, &run); err != nil {
		return err
	}
	return reservationText(cmd.OutOrStdout(), run)
}

func reservationText(w io.Writer, run labapi.Run) error {
	for _, h := range run.Hosts {
		if err := line(w, "%s reserved until %s", h.Hostname, utc(run.LeaseUntil)); err != nil {
			return err
		}
	}
	return nil
}

func runPath(id int64, more ...string) string {
	return labclient.Path(append([]string{"runs", strconv.FormatInt(id, 10)}, more...)...)
}

// reservationOf finds the reservation that has a host.
func reservationOf(ctx context.Context, client *labclient.Client, host string) (labapi.Run, error) {
	runs, err := labclient.List[labapi.Run](ctx, client, "/runs", query("host", host, "kind", "reserve", "open", "true"), 1)
	if err != nil {
		return labapi.Run{}, err
	}
	if len(runs) == 0 {
		return labapi.Run{}, fmt.Errorf("nobody has reserved %s; 'hostsched host explain %s' says who has it", host, host)
	}
	return runs[0], nil
}

// onReservations calls something of the reservations that have hosts.
func onReservations(cmd *cobra.Command, conn *connection, hosts []string, call func(context.Context, *labclient.Client, labapi.Run) error) error {
	return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
		return forEach(ctx, cmd, hosts, "", func(ctx context.Context, host string) error {
			run, err := reservationOf(ctx, client, host)
			if err != nil {
				return err
			}
			return call(ctx, client, run)
		})
	})
}

func hostExtendCommand() *cobra.Command {
	var conn connection
	var many bulk
	var length time.Duration
	cmd := &cobra.Command{
		Use: "extend HOST...", Short: "Keep reserved hosts for longer", Example: "  hostsched host extend eve-1 --for 1h",
		Long: "Let the reservations of hosts end later by some time. Hosts that were reserved together stay together.",
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts, err := many.required(cmd, args)
			if err != nil {
				return err
			}
			if length == 0 {
				return fmt.Errorf("%w: say with --for by how long, like 1h", errUsage)
			}
			return onReservations(cmd, &conn, hosts, func(ctx context.Context, client *labclient.Client, run labapi.Run) error {
				var later labapi.Run
				call := labclient.Call{Method: http.MethodPost, Path: runPath(run.ID, "extend"), Body: labapi.ExtendInput{For: length.String()}}
				if err := client.Do(ctx, call, &later); err != nil {
					return err
				}
				return reservationText(cmd.OutOrStdout(), later)
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	bind(cmd, &length, "for", 0, minReserve, jobspec.LongestReserve, "by how long, like 1h or 2d")
	cmd.ValidArgsFunction = completeMany(&conn, hostsOf)
	return cmd
}

func hostReleaseCommand() *cobra.Command {
	var conn connection
	var many bulk
	cmd := &cobra.Command{
		Use: "release HOST...", Short: "Give reserved hosts back", Example: "  hostsched host release eve-1",
		Long: "End the reservations of hosts. Hosts that were reserved together are given back together, and cleaned.",
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts, err := many.required(cmd, args)
			if err != nil {
				return err
			}
			return onReservations(cmd, &conn, hosts, func(ctx context.Context, client *labclient.Client, run labapi.Run) error {
				call := labclient.Call{Method: http.MethodPost, Path: runPath(run.ID, "release")}
				if err := client.Do(ctx, call, nil); err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "%s released", hostNames(run.Hosts))
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	cmd.ValidArgsFunction = completeMany(&conn, hostsOf)
	return cmd
}
