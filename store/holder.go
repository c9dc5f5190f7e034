package store

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hostsched/hostsched/shard"
)

// HolderName names a process in the fence and in the history: its server, its process
// id, a mark that no other process has, and the address of its pages. People and
// commands find the process by the latter when etcd does not answer. An address that
// does not fit is left out.
func HolderName(server string, pid int, mark, address string) string {
	name := fmt.Sprintf("%s/%d/%s", server, pid, mark)
	if full := name + "/" + address; address != "" && utf8.RuneCountInString(full) <= shard.MaxName {
		return full
	}
	return name
}

// SplitHolder returns the server and the address of a HolderName; the address is empty
// if the name has none.
func SplitHolder(holder string) (server, address string) {
	parts := strings.SplitN(holder, "/", 4)
	if len(parts) == 4 {
		address = parts[3]
	}
	return parts[0], address
}
