package access

import (
	"errors"
	"fmt"
	"slices"
)

// ErrDenied means that the caller may not do what was asked.
var ErrDenied = errors.New("not allowed")

// Role is what somebody may do, from nothing to everything.
type Role int

// The roles, each may do what the ones before it may.
const (
	Nobody Role = iota
	Viewer
	User
	Operator
	Admin
)

var names = []string{"", "viewer", "user", "operator", "admin"}

func (r Role) String() string { return names[r] }

// ParseRole returns the role of a name.
func ParseRole(name string) (Role, error) {
	if i := slices.Index(names, name); i > 0 {
		return Role(i), nil
	}
	return Nobody, fmt.Errorf("%q is no role: viewer, user, operator or admin", name)
}

// OfAccessLevel is the role that the access_level of afe_users gives: Autotest knows
// ordinary users, and superusers from 100.
func OfAccessLevel(level int64) Role {
	switch {
	case level >= 100:
		return Admin
	case level >= 1:
		return Operator
	}
	return User
}

// Of is the role of a user with an access_level in Autotest's tables, a role that was granted
// by name, and one that an identity provider's groups gave; Nobody stands for none. What was
// granted by name counts alone: it may also take something away.
func Of(accessLevel int64, granted, signedIn Role) Role {
	role := OfAccessLevel(accessLevel)
	switch {
	case granted != Nobody:
		return granted
	case signedIn != Nobody && role == User:
		return signedIn
	}
	return max(role, signedIn)
}

// Caller is who asks.
type Caller struct {
	Login string
	Role  Role
	// By is how the caller was recognised.
	By string
}

// BySocket is how whoever calls through a socket of the server's machine was recognised: the
// operating system says who it is, who need not be a user of the lab.
const BySocket = "socket"

// ByNobody is how whoever shows no token is recognised: not at all.
const ByNobody = "anonymous"

// Local tells whether the caller is an administrator because of the machine that it calls
// from: over a socket, or where everybody on a machine is one. It need not be a user of the
// lab, and submits for the first administrator.
func (c Caller) Local() bool {
	return c.By == BySocket || c.By == ByNobody && c.Role == Admin
}

// Rule is what a route asks of its caller.
type Rule struct {
	// Least is the role that may do it in any case.
	Least Role
	// Related is the role that may do it if the caller is related to what it is
	// about: owns it, or shares an ACL group with it. Nobody if that does not help.
	Related Role
}

// The rules of routes.
var (
	Reading       = Rule{Least: Viewer}
	Submitting    = Rule{Least: User}
	ChangingHosts = Rule{Least: Operator, Related: User}
	ChangingJobs  = Rule{Least: Operator, Related: User}
	OwnTokens     = Rule{Least: Admin, Related: Viewer}
	Operating     = Rule{Least: Operator}
	Administering = Rule{Least: Admin}
)

// MayTry tells whether the caller could be allowed at all, before anybody looked at what
// it is about.
func (r Rule) MayTry(c Caller) bool {
	return c.Role >= r.Least || r.Related > Nobody && c.Role >= r.Related
}

// Check refuses a caller, who is related to what it is about or not.
func (r Rule) Check(c Caller, related bool) error {
	if c.Role >= r.Least || related && r.Related > Nobody && c.Role >= r.Related {
		return nil
	}
	if r.Related > Nobody && c.Role >= r.Related {
		return fmt.Errorf("%w: %s is %s; this needs a common ACL group, or the role %s", ErrDenied, c.Login, c.Role, r.Least)
	}
	return fmt.Errorf("%w: %s is %s; this needs the role %s", ErrDenied, c.Login, c.Role, r.Least)
}
