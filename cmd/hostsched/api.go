package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labclient"
)

// methods are those that the API has.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

func apiCommand() *cobra.Command {
	var conn connection
	var input, match string
	cmd := &cobra.Command{
		Use: "api METHOD PATH", Short: "Call the API and print its answer", Args: exactly("METHOD", "PATH"),
		Long: `Call any route of the API, which GET /openapi.json describes, and print the
answer as it comes. PATH is below /api/v1.`,
		Example: `  hostsched api GET '/hosts?label=board:eve&limit=5'
  hostsched api POST /jobs --input job.json`,
		ValidArgsFunction: cobra.FixedCompletions(methods, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			call, err := rawCall(args[0], args[1])
			if err != nil {
				return err
			}
			if input != "" {
				if call.Body, err = readInput(cmd, input); err != nil {
					return err
				}
			}
			if match != "" {
				call.Header = http.Header{"If-Match": {match}}
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				var answer []byte
				if err := client.Do(ctx, call, &answer); err != nil {
					return err
				}
				_, err := cmd.OutOrStdout().Write(answer)
				return err
			})
		},
	}
	conn.bind(cmd)
	cmd.Flags().StringVar(&input, "input", "", "file with the body, in JSON; - for standard input")
	cmd.Flags().StringVar(&match, "if-match", "", "the ETag that the thing must still have, or * for any")
	return cmd
}

func rawCall(method, path string) (labclient.Call, error) {
	method = strings.ToUpper(method)
	if err := oneOf(method, methods); err != nil {
		return labclient.Call{}, fmt.Errorf("%w: METHOD: %w", errUsage, err)
	}
	u, err := url.Parse(strings.TrimPrefix(path, labclient.Prefix))
	if err == nil && (u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/")) {
		err = errors.New("it begins with /, like /hosts")
	}
	if err != nil {
		return labclient.Call{}, fmt.Errorf("%w: PATH %q: %w", errUsage, path, err)
	}
	return labclient.Call{Method: method, Path: u.EscapedPath(), Query: u.Query()}, nil
}

// query makes the query of a call from names and values; empty values are left out.
func query(pairs ...string) url.Values {
	out := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			out.Add(pair[0], pair[1])
		}
	}
	return out
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return ""
}
