package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

// peopleRoutes are about who callers are and what they may do.
func (a *API) peopleRoutes() {
	route(a, access.Rule{}, huma.Operation{OperationID: "whoami", Method: http.MethodGet, Path: "/whoami", Summary: "Who the caller is", Tags: []string{"people"}},
		func(ctx context.Context, _ *lab.Lab, _ *struct{}) (*body[labapi.Whoami], error) {
			c := callerOf(ctx)
			return answer(labapi.Whoami{Login: c.Login, Role: c.Role.String(), By: c.By, Owner: lab.SubmitsAs(c)}, nil)
		})
	route(a, access.OwnTokens, huma.Operation{OperationID: "list-tokens", Method: http.MethodGet, Path: "/tokens", Summary: "Tokens: one's own, or with all those of everybody", Tags: []string{"people"}},
		func(ctx context.Context, l *lab.Lab, in *struct {
			All bool `query:"all" doc:"Those of everybody; for administrators."`
		}) (*body[labapi.Page[labapi.Token]], error) {
			c := callerOf(ctx)
			login := lab.SubmitsAs(c)
			if in.All {
				login = ""
			}
			if err := access.OwnTokens.Check(c, !in.All); err != nil {
				return nil, err
			}
			all, err := l.Tokens(ctx, login)
			return answer(labapi.Page[labapi.Token]{Items: all}, err)
		})
	route(a, access.OwnTokens, huma.Operation{OperationID: "create-token", Method: http.MethodPost, Path: "/tokens", DefaultStatus: http.StatusCreated, Summary: "A new token; its secret is shown once", Tags: []string{"people"}},
		func(ctx context.Context, l *lab.Lab, in *body[labapi.TokenInput]) (*body[labapi.NewToken], error) {
			c := callerOf(ctx)
			if in.Body.Login == "" {
				in.Body.Login = c.Login
				if c.By != "token" {
					return nil, fmt.Errorf("%w: say in login whose token it is ('hostsched token create --login'): %s is no user of the lab", lab.ErrInput, c.Login)
				}
			}
			if err := access.OwnTokens.Check(c, in.Body.Login == c.Login); err != nil {
				return nil, err
			}
			return answer(l.CreateToken(ctx, c, in.Body))
		})
	route(a, access.OwnTokens, huma.Operation{OperationID: "revoke-token", Method: http.MethodDelete, Path: "/tokens/{id}", DefaultStatus: http.StatusNoContent, Summary: "End a token", Tags: []string{"people"}},
		func(ctx context.Context, l *lab.Lab, in *struct {
			ID int64 `path:"id"`
		}) (*nothing, error) {
			c := callerOf(ctx)
			t, err := l.Token(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			if err := access.OwnTokens.Check(c, t.Login == c.Login); err != nil {
				return nil, err
			}
			return nil, l.RevokeToken(ctx, c, in.ID)
		})
}
