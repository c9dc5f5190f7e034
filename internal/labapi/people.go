package labapi

import "time"

// Label is a property of hosts.
type Label struct {
	Name  string `json:"name" minLength:"1" maxLength:"255"`
	Hosts int    `json:"hosts" doc:"How many hosts carry it." readOnly:"true"`
	Shard string `json:"shard,omitempty" readOnly:"true"`
}

// ACLGroup says which users may use which hosts.
type ACLGroup struct {
	Name        string   `json:"name" minLength:"1" maxLength:"255"`
	Description string   `json:"description,omitempty" maxLength:"255"`
	Users       []string `json:"users,omitempty" doc:"Not in lists."`
	Hosts       []string `json:"hosts,omitempty" doc:"Not in lists."`
	UserCount   int      `json:"user_count" readOnly:"true"`
	HostCount   int      `json:"host_count" readOnly:"true"`
}

// ACLGroupPatch changes what it names of an ACL group.
type ACLGroupPatch struct {
	Description *string  `json:"description,omitempty" maxLength:"255"`
	AddUsers    []string `json:"add_users,omitempty" maxItems:"10000"`
	RemoveUsers []string `json:"remove_users,omitempty" maxItems:"10000"`
	AddHosts    []string `json:"add_hosts,omitempty" maxItems:"10000"`
	RemoveHosts []string `json:"remove_hosts,omitempty" maxItems:"10000"`
}

// User is somebody who submits jobs.
type User struct {
	Login     string   `json:"login" minLength:"1" maxLength:"190"`
	Role      string   `json:"role" enum:"viewer,user,operator,admin" readOnly:"true"`
	ACLGroups []string `json:"acl_groups" readOnly:"true"`
}

// Token is a right to act as a user, without its secret.
type Token struct {
	ID        int64      `json:"id"`
	Name      string     `json:"name"`
	Login     string     `json:"login"`
	Role      string     `json:"role,omitempty" doc:"The token has at most this role."`
	Created   time.Time  `json:"created"`
	CreatedBy string     `json:"created_by"`
	Expires   *time.Time `json:"expires,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
	Revoked   *time.Time `json:"revoked,omitempty"`
}

// TokenInput asks for a token.
type TokenInput struct {
	Name    string     `json:"name" minLength:"1" maxLength:"190"`
	Login   string     `json:"login,omitempty" maxLength:"190" doc:"Whose token; one's own if left out."`
	Role    string     `json:"role,omitempty" enum:"viewer,user,operator,admin"`
	Expires *time.Time `json:"expires,omitempty"`
}

// NewToken is a token with its secret, which is shown once.
type NewToken struct {
	Token
	Secret string `json:"secret"`
}

// RoleGrant gives a role to a user, or to a group of the identity provider.
type RoleGrant struct {
	Kind string `json:"kind" enum:"user,group"`
	Name string `json:"name" minLength:"1" maxLength:"190"`
	Role string `json:"role" enum:"viewer,user,operator,admin"`
}

// RoleInput is the role of a grant.
type RoleInput struct {
	Role string `json:"role" enum:"viewer,user,operator,admin"`
}

// LabelInput is a new label.
type LabelInput struct {
	Name string `json:"name" minLength:"1" maxLength:"255"`
}

// UserInput is a new user.
type UserInput struct {
	Login string `json:"login" minLength:"1" maxLength:"190"`
}

// ACLGroupInput is a new ACL group.
type ACLGroupInput struct {
	Name        string   `json:"name" minLength:"1" maxLength:"255"`
	Description string   `json:"description,omitempty" maxLength:"255"`
	Users       []string `json:"users,omitempty" maxItems:"10000"`
	Hosts       []string `json:"hosts,omitempty" maxItems:"10000"`
}

// Whoami is who the caller is.
type Whoami struct {
	Login string `json:"login"`
	Role  string `json:"role"`
	// By is how the caller was recognised: token, socket, oidc or anonymous.
	By string `json:"by"`
	// Owner is Login, but for callers that are known by their machine alone.
	Owner string `json:"owner" doc:"Whose jobs those are that the caller submits without an owner."`
}

// Event is a row of the journal.
type Event struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind" doc:"Like host.assigned, job.submitted, shard.taken_over."`
	Shard   string    `json:"shard,omitempty"`
	Host    string    `json:"host,omitempty"`
	Job     int64     `json:"job,omitempty"`
	Entry   int64     `json:"entry,omitempty"`
	Who     string    `json:"who"`
	Subject string    `json:"subject,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// Page is one page of a list. After is the cursor of the next one, empty on the last.
type Page[T any] struct {
	Items []T    `json:"items"`
	After string `json:"after,omitempty"`
}

// DeviceLogin is a login of a command line: its person opens the address and confirms the
// code, and meanwhile the command line asks for the token.
type DeviceLogin struct {
	Code            string `json:"code" doc:"For POST /login/device/token."`
	UserCode        string `json:"user_code"`
	VerificationURL string `json:"verification_url"`
	// Interval is in seconds.
	Interval int64 `json:"interval" doc:"Seconds to wait between two questions."`
}

// DeviceCode asks for the token of a DeviceLogin.
type DeviceCode struct {
	Code string `json:"code" minLength:"1" maxLength:"4000"`
}
