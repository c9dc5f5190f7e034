package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// galeraProvider is where Debian's package galera-4 puts its library.
const galeraProvider = "/usr/lib/galera/libgalera_smm.so"

// StartGalera starts n nodes of a Galera cluster of MariaDB, each of which takes
// writes. The files are below dir.
func StartGalera(dir string, n int) ([]*Server, error) {
	if _, err := os.Stat(galeraProvider); err != nil {
		return nil, fmt.Errorf("look for Galera: %w; Debian's package galera-4 has it", err)
	}
	var ports []string
	for range n {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		ports = append(ports, "127.0.0.1:"+strconv.Itoa(port))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "wsrep_sst_"+transferMethod), []byte(transferScript), 0o755); err != nil {
		return nil, err
	}
	var nodes []*Server
	for i := range n {
		s, err := galeraNode(dir, ports, i)
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, s)
	}
	if err := sameBeginning(nodes); err != nil {
		return nodes, err
	}
	for _, s := range nodes {
		if err := s.run(); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

// sameBeginning gives all nodes the data of the first, which begins the cluster and
// ends again. So nobody has to be sent a copy of everything, for which nodes would
// need other programs.
func sameBeginning(nodes []*Server) error {
	first := nodes[0]
	if err := first.run(); err != nil {
		return err
	}
	if err := first.end(); err != nil {
		return err
	}
	first.cmd = exec.Command(first.cmd.Path, first.cmd.Args[1:]...)
	for _, s := range nodes[1:] {
		if err := os.RemoveAll(s.data()); err != nil {
			return err
		}
		if err := os.CopyFS(s.data(), os.DirFS(first.data())); err != nil {
			return err
		}
		// Each node has an id of its own, which it makes up.
		if err := os.Remove(filepath.Join(s.data(), "gvwstate.dat")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func galeraNode(dir string, ports []string, i int) (*Server, error) {
	increments, err := FreePort()
	if err != nil {
		return nil, err
	}
	options := []string{
		"--wsrep-on=ON", "--wsrep-provider=" + galeraProvider, "--wsrep-cluster-name=hostsched", "--wsrep-cluster-address=gcomm://" + strings.Join(ports, ","),
		"--wsrep-node-address=127.0.0.1", "--wsrep-node-name=node-" + strconv.Itoa(i+1),
		fmt.Sprintf("--wsrep-provider-options=gmcast.listen_addr=tcp://%s;ist.recv_addr=127.0.0.1:%d;gcache.size=256M", ports[i], increments),
		"--wsrep-sst-method=" + transferMethod, "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--innodb-log-file-size=32M", "--innodb-buffer-pool-size=128M",
	}
	if i == 0 {
		options = append(options, newGalera)
	}
	s, err := prepare(MariaDB, filepath.Join(dir, strconv.Itoa(i+1)), options...)
	if err != nil {
		return nil, err
	}
	s.env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	s.rejoin = s.rejoinGalera
	return s, nil
}

// transferMethod is how a node that joins is told from where on it has to be sent
// changes: by a file. Debian's methods need rsync, which gives up root's rights, or
// other programs. Nodes begin with the same data and keep all changes, so no other
// kind of transfer is needed.
const transferMethod = "changes"

const transferScript = `#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in
    --role) role=$2 ;;
    --address) file=$2 ;;
    --datadir) data=$2 ;;
    --parent) parent=$2 ;;
    --gtid) gtid=$2 ;;
    --bypass) bypass=1 ;;
  esac
  shift
done
if [ "$role" = donor ]; then
  [ -n "$bypass" ] || exit 1
  echo "$gtid" > "$file.part" && mv "$file.part" "$file"
  echo "done $gtid"
  exit
fi
file=$data/transfer
rm -f "$file"
echo "ready $file"
until [ -e "$file" ]; do
  kill -0 "$parent" || exit 1
  sleep 0.05
done
cat "$file"
`

// newGalera makes the first node begin a cluster.
const newGalera = "--wsrep-new-cluster"

var recoveredPosition = regexp.MustCompile(`WSREP: Recovered position: (\S+)`)

// rejoinGalera finds out how far a node that was killed had got, so that it need not
// be given all data again.
func (s *Server) rejoinGalera(args []string) ([]string, error) {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == newGalera || strings.HasPrefix(a, startPosition) })
	log := filepath.Join(s.Dir, "recovery.err")
	cmd := exec.Command(s.cmd.Path, append(slices.Clone(args), "--wsrep-recover", "--log-error="+log)...)
	if err := runQuietly(cmd); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	found := recoveredPosition.FindAllSubmatch(text, -1)
	if len(found) == 0 {
		return nil, errors.New("no position of Galera in " + log)
	}
	return append(args, startPosition+string(found[len(found)-1][1])), nil
}

const startPosition = "--wsrep-start-position="
