package traceid

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
)

// Keyval is the key of the job's keyval with the trace, and Header that of requests.
const (
	Keyval = "traceparent"
	Header = "traceparent"
	// Variable is the variable of the environment by which commands hand a trace on.
	Variable = "TRACEPARENT"
)

// Parent is a span, as a child of it has to know it. The zero value is none.
type Parent struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool
}

// form is that of version 00; later versions may have more at the end.
var form = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$`)

// Parse reads a traceparent. What is none counts as absent, as the specification asks.
func Parse(text string) (p Parent, ok bool) {
	m := form.FindStringSubmatch(text)
	if m == nil || m[1] == "ff" || m[1] == "00" && m[5] != "" {
		return Parent{}, false
	}
	flags, err := strconv.ParseUint(m[4], 16, 8)
	if err != nil {
		return Parent{}, false
	}
	if _, err := hex.Decode(p.Trace[:], []byte(m[2])); err != nil {
		return Parent{}, false
	}
	if _, err := hex.Decode(p.Span[:], []byte(m[3])); err != nil {
		return Parent{}, false
	}
	p.Sampled = flags&1 != 0
	if p.Trace == [16]byte{} || p.Span == [8]byte{} {
		return Parent{}, false
	}
	return p, true
}

// String is the traceparent.
func (p Parent) String() string {
	flags := 0
	if p.Sampled {
		flags = 1
	}
	return fmt.Sprintf("00-%x-%x-%02x", p.Trace, p.Span, flags)
}

// New returns a trace that begins here.
func New(sampled bool) Parent {
	p := Parent{Sampled: sampled}
	_, _ = rand.Read(p.Trace[:]) // never fails
	return p.Child()
}

// Child is another span of the same trace.
func (p Parent) Child() Parent {
	_, _ = rand.Read(p.Span[:]) // never fails
	return p
}

// Run is the span of a run of the job.
func (p Parent) Run(id int64) Parent {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s run %d", p, id))
	copy(p.Span[:], sum[:])
	return p
}
