package api

import (
	"context"
	"net/http"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

// groupRoutes are about labels, ACL groups, users and roles.
func (a *API) groupRoutes() {
	a.labelRoutes()
	a.aclRoutes()
	a.userRoutes()
	a.roleRoutes()
}

func (a *API) labelRoutes() {
	route(a, access.Reading, operation("list-labels", http.MethodGet, "/labels", "labels", "Labels, by id"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			List
			Text string `query:"q" maxLength:"255" doc:"Part of the name."`
		}) (*body[labapi.Page[labapi.Label]], error) {
			return answer(l.Labels(ctx, in.Text, in.After, in.Limit))
		})
	route(a, access.Operating, operation("add-label", http.MethodPost, "/labels", "labels", "Enter a label; hosts that get a new one enter it by themselves"),
		func(ctx context.Context, l *lab.Lab, in *body[labapi.LabelInput]) (*body[labapi.Label], error) {
			return answer(l.AddLabel(ctx, callerOf(ctx), in.Body.Name))
		})
	route(a, access.Reading, operation("get-label", http.MethodGet, "/labels/{label}", "labels", "A label"),
		func(ctx context.Context, l *lab.Lab, in *LabelPath) (*body[labapi.Label], error) {
			return answer(l.Label(ctx, in.Label))
		})
	route(a, access.Operating, operation("remove-label", http.MethodDelete, "/labels/{label}", "labels", "Remove a label for which nothing waits"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			LabelPath
			FromHosts bool `query:"from_hosts" doc:"Also take it from the hosts that carry it."`
		}) (*nothing, error) {
			return nil, l.RemoveLabel(ctx, callerOf(ctx), in.Label, in.FromHosts)
		})
}

// GroupPath names an ACL group.
type GroupPath struct {
	Name string `path:"name" minLength:"1" maxLength:"255"`
}

func (a *API) aclRoutes() {
	route(a, access.Reading, operation("list-acl-groups", http.MethodGet, "/acl-groups", "acl", "ACL groups, by id, without their members"),
		func(ctx context.Context, l *lab.Lab, in *List) (*body[labapi.Page[labapi.ACLGroup]], error) {
			return answer(l.ACLGroups(ctx, in.After, in.Limit))
		})
	route(a, access.Administering, operation("add-acl-group", http.MethodPost, "/acl-groups", "acl", "Make an ACL group"),
		func(ctx context.Context, l *lab.Lab, in *body[labapi.ACLGroupInput]) (*versioned[labapi.ACLGroup], error) {
			return answerVersion(l.AddACLGroup(ctx, callerOf(ctx), in.Body))
		})
	route(a, access.Reading, operation("get-acl-group", http.MethodGet, "/acl-groups/{name}", "acl", "An ACL group with its members"),
		func(ctx context.Context, l *lab.Lab, in *GroupPath) (*versioned[labapi.ACLGroup], error) {
			return answerVersion(l.ACLGroup(ctx, in.Name))
		})
	route(a, access.Administering, operation("change-acl-group", http.MethodPatch, "/acl-groups/{name}", "acl", "Change an ACL group and its members"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			GroupPath
			Match
			Body labapi.ACLGroupPatch
		}) (*versioned[labapi.ACLGroup], error) {
			version, err := in.version()
			if err != nil {
				return nil, err
			}
			g, version, err := l.PatchACLGroup(ctx, callerOf(ctx), in.Name, version, in.Body)
			if err == nil {
				a.wakeShards(ctx, l)
			}
			return answerVersion(g, version, err)
		})
	route(a, access.Administering, operation("remove-acl-group", http.MethodDelete, "/acl-groups/{name}", "acl", "Remove an ACL group; hosts in no other one are in Everyone then"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			GroupPath
			Match
		}) (*nothing, error) {
			version, err := in.version()
			if err != nil {
				return nil, err
			}
			return nil, l.RemoveACLGroup(ctx, callerOf(ctx), in.Name, version)
		})
}

// UserPath names a user.
type UserPath struct {
	Login string `path:"login" minLength:"1" maxLength:"190"`
}

func (a *API) userRoutes() {
	route(a, access.Reading, operation("list-users", http.MethodGet, "/users", "people", "Users, by id, with their roles and ACL groups"),
		func(ctx context.Context, l *lab.Lab, in *List) (*body[labapi.Page[labapi.User]], error) {
			return answer(l.Users(ctx, in.After, in.Limit))
		})
	route(a, access.Administering, operation("add-user", http.MethodPost, "/users", "people", "Enter a user, who is in Everyone"),
		func(ctx context.Context, l *lab.Lab, in *body[labapi.UserInput]) (*body[labapi.User], error) {
			return answer(l.AddUser(ctx, callerOf(ctx), in.Body.Login))
		})
	route(a, access.Reading, operation("get-user", http.MethodGet, "/users/{login}", "people", "A user"),
		func(ctx context.Context, l *lab.Lab, in *UserPath) (*body[labapi.User], error) {
			return answer(l.User(ctx, in.Login))
		})
	route(a, access.Administering, operation("remove-user", http.MethodDelete, "/users/{login}", "people", "Remove a user to whom nothing refers, with all tokens"),
		func(ctx context.Context, l *lab.Lab, in *UserPath) (*nothing, error) {
			return nil, l.RemoveUser(ctx, callerOf(ctx), in.Login)
		})
}

// GrantPath names who has a role.
type GrantPath struct {
	Kind string `path:"kind" enum:"user,group"`
	Name string `path:"name" minLength:"1" maxLength:"190"`
}

func (a *API) roleRoutes() {
	route(a, access.Reading, operation("list-roles", http.MethodGet, "/roles", "people", "Roles that were given to users, and to groups of the identity provider"),
		func(ctx context.Context, l *lab.Lab, _ *struct{}) (*body[labapi.Page[labapi.RoleGrant]], error) {
			all, err := l.Grants(ctx)
			return answer(labapi.Page[labapi.RoleGrant]{Items: all}, err)
		})
	route(a, access.Administering, operation("grant-role", http.MethodPut, "/roles/{kind}/{name}", "people", "Give a role to a user or a group"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			GrantPath
			Body labapi.RoleInput
		}) (*body[labapi.RoleGrant], error) {
			g := labapi.RoleGrant{Kind: in.Kind, Name: in.Name, Role: in.Body.Role}
			return answer(g, l.Grant(ctx, callerOf(ctx), g))
		})
	route(a, access.Administering, operation("revoke-role", http.MethodDelete, "/roles/{kind}/{name}", "people", "Take a role back"),
		func(ctx context.Context, l *lab.Lab, in *GrantPath) (*nothing, error) {
			return nil, l.RevokeGrant(ctx, callerOf(ctx), in.Kind, in.Name)
		})
}
