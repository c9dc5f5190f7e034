// Package child starts processes that do not outlive this one, even if it is
// killed.
package child
