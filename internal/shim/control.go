package shim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/command"
)

// Control is what the agent tells the shim.
type Control struct {
	// Boot is that of the machine's start by whose clock the times are.
	Boot string `json:"boot"`
	// Ask is when the steps are asked to end because the lease ends, Kill when nothing may run.
	Ask  command.Instant `json:"ask"`
	Kill command.Instant `json:"kill"`
	// Sent and Length are of the call that last renewed the lease, for the agent that comes
	// after this one.
	Sent   command.Instant `json:"sent"`
	Length time.Duration   `json:"length"`
	// Stop is why the run is to end now, empty if it is not.
	Stop  string        `json:"stop,omitempty"`
	Grace time.Duration `json:"grace,omitempty"`
}

// controlSize is that of the file, which is written in place: a file of its own would not fit
// on a full disk, and the run would end without need.
const controlSize = 512

// encode has a checksum, because the shim may read while the agent writes.
func (c Control) encode() ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	line := fmt.Sprintf("%08x %s", crc32.ChecksumIEEE(text), text)
	if len(line) >= controlSize {
		return nil, fmt.Errorf("the control of a run is too long: %s", line)
	}
	return []byte(line + strings.Repeat(" ", controlSize-len(line)-1) + "\n"), nil
}

func decodeControl(data []byte) (c Control, ok bool) {
	sum, text, found := bytes.Cut(bytes.TrimRight(data, " \n"), []byte(" "))
	if !found || string(sum) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) {
		return c, false
	}
	return c, json.Unmarshal(text, &c) == nil
}

// SetControl tells the shim.
func (f Folder) SetControl(c Control) error {
	data, err := c.encode()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(f.path(controlFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("renew the deadline of a run: %w", err)
	}
	_, err = file.WriteAt(data, 0)
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("renew the deadline of a run: %w", err)
	}
	return nil
}

// Control is what the shim was last told.
func (f Folder) Control() (Control, bool) {
	data, err := os.ReadFile(f.path(controlFile))
	if err != nil {
		return Control{}, false
	}
	return decodeControl(data)
}
