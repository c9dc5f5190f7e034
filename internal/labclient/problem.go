package labclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Errors that callers tell apart, besides Problem.
var (
	// ErrSetting is an address, a token or a file of contexts that makes no sense.
	ErrSetting = errors.New("cannot be used")
	// ErrAway means that no server answered, or none that was ready.
	ErrAway = errors.New("no server answers")
)

// typePrefix begins the stable types of problems.
const typePrefix = "/problems/"

// maxProblem is how much of an answer that is an error is read.
const maxProblem = 64 << 10

// Problem is a problem document with which a server answered.
type Problem struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Errors []detail `json:"errors"`
	// ExpectedOffset is where a log goes on, if that is the problem.
	ExpectedOffset *int64 `json:"expected_offset"`
}

// detail is what is wrong with one field.
type detail struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}

// Error implements error: one line.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	var fields []string
	for _, e := range p.Errors {
		fields = append(fields, strings.TrimSpace(e.Location+" "+e.Message))
	}
	if len(fields) > 0 {
		text += ": " + strings.Join(fields, "; ")
	}
	return text
}

// Name is the type without its prefix, like stale-version.
func (p *Problem) Name() string { return strings.TrimPrefix(p.Type, typePrefix) }

// IsProblem tells whether an error is a problem of this name.
func IsProblem(err error, name string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Name() == name
}

// problemOf makes an error of an answer that is none of success.
func problemOf(res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxProblem))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	p := &Problem{}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(text, p) != nil {
		return &Problem{Status: res.StatusCode, Detail: fmt.Sprintf("the answer is %s and no answer of hostsched; is it a server of the lab, of the same version?", res.Status)}
	}
	p.Status = res.StatusCode
	return p
}
