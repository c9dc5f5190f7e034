package testserver

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// StartGroup starts n servers of a MySQL group with a single primary. The files
// are below dir.
func StartGroup(dir string, n int) ([]*Server, error) {
	var ports []string
	for range n {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		ports = append(ports, "127.0.0.1:"+strconv.Itoa(port))
	}
	var nodes []*Server
	for i := range n {
		s, err := prepare(MySQL, filepath.Join(dir, strconv.Itoa(i+1)), groupOptions(ports, i)...)
		if err != nil {
			return nodes, err
		}
		s.cmd.Args = append(s.cmd.Args, fmt.Sprintf("--report-port=%d", s.Port))
		nodes = append(nodes, s)
		if err := s.run(); err != nil {
			return nodes, err
		}
		if err := s.joinGroup(i == 0); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

func groupOptions(ports []string, i int) []string {
	return []string{
		"--log-bin=binlog", "--server-id=" + strconv.Itoa(i+1), "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--report-host=127.0.0.1",
		"--plugin-load-add=group_replication.so", "--loose-group-replication-group-name=6d0b3f0e-5f0b-4c55-9a53-5d6a3c1f7a10",
		"--loose-group-replication-local-address=" + ports[i], "--loose-group-replication-group-seeds=" + strings.Join(ports, ","),
		"--loose-group-replication-ip-allowlist=127.0.0.1",
		"--loose-group-replication-member-expel-timeout=0", "--loose-group-replication-start-on-boot=OFF",
		// Recovery logs in to another server of the group without TLS.
		"--loose-group-replication-recovery-get-public-key=ON",
		"--innodb-buffer-pool-size=128M", "--mysqlx=OFF",
	}
}

// JoinGroup makes a server take part in its group again, after it was started again
// or expelled.
func (s *Server) JoinGroup() error {
	if _, err := s.admin.Exec("STOP GROUP_REPLICATION"); err != nil {
		return fmt.Errorf("leave a group of MySQL servers: %w", err)
	}
	return s.joinGroup(false)
}

func (s *Server) joinGroup(first bool) error {
	texts := []string{"CHANGE REPLICATION SOURCE TO SOURCE_USER = 'root', SOURCE_PASSWORD = '' FOR CHANNEL 'group_replication_recovery'", "START GROUP_REPLICATION"}
	if first {
		texts = []string{texts[0], "SET GLOBAL group_replication_bootstrap_group = ON", texts[1], "SET GLOBAL group_replication_bootstrap_group = OFF"}
	}
	for _, text := range texts {
		if _, err := s.admin.Exec(text); err != nil {
			return fmt.Errorf("join a group of MySQL servers: %s: %w", text, err)
		}
	}
	return nil
}

// InGroup tells whether a server takes part in its group, as it says itself.
func (s *Server) InGroup(ctx context.Context) bool {
	var online bool
	err := s.admin.QueryRowContext(ctx, "SELECT COUNT(*) > 0 FROM performance_schema.replication_group_members WHERE MEMBER_ID = @@server_uuid AND MEMBER_STATE = 'ONLINE'").Scan(&online)
	return err == nil && online
}

// Primary returns the port of the server that takes the writes of its group, as
// this server sees it; 0 if there is none.
func (s *Server) Primary(ctx context.Context) (port int, err error) {
	err = s.admin.QueryRowContext(ctx, "SELECT COALESCE(MAX(MEMBER_PORT), 0) FROM performance_schema.replication_group_members WHERE MEMBER_ROLE = 'PRIMARY' AND MEMBER_STATE = 'ONLINE'").Scan(&port)
	return port, err
}
