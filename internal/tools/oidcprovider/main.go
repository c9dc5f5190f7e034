// Command oidcprovider is an OpenID provider with two users, for the tests of logging in.
// It listens on PORT of localhost; REDIRECT_URI is where it may send browsers to.
//
// It is built with the modules of internal/tools, so that nobody who builds hostsched needs
// those of the provider.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// people are the users, all with the password "secret", and their groups.
var people = map[string][]string{"alice": {"lab-operators"}, "bob": {}}

type users struct{}

func (users) GetUserByID(id string) *storage.User {
	if _, ok := people[id]; !ok {
		return nil
	}
	return &storage.User{ID: id, Username: id, Password: "secret", FirstName: id, Email: id + "@lab.example", EmailVerified: true}
}

func (u users) GetUserByUsername(name string) *storage.User { return u.GetUserByID(name) }
func (users) ExampleClientID() string                       { return "service" }

// store adds the claim groups.
type store struct{ *storage.Storage }

func (s store) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, token op.IDTokenRequest, scopes []string) error {
	info.AppendClaims("groups", people[token.GetSubject()])
	return s.Storage.SetUserinfoFromRequest(ctx, info, token, scopes)
}

func (s store) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, subject, origin string) error {
	info.AppendClaims("groups", people[subject])
	return s.Storage.SetUserinfoFromToken(ctx, info, tokenID, subject, origin)
}

func main() {
	port := os.Getenv("PORT")
	storage.RegisterClients(
		storage.WebClient("lab", "web-secret", os.Getenv("REDIRECT_URI")),
		storage.DeviceClient("lab-device", "device-secret"),
	)
	handler := exampleop.SetupServer("http://localhost:"+port+"/", store{storage.NewStorage(users{})}, nil, false)
	log.Fatal(http.ListenAndServe("localhost:"+port, handler))
}
