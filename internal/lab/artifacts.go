package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Bounds of what a run may leave.
const (
	maxArtifactPath = 255
	maxTestName     = 500
	maxTestMessage  = 1000
)

// ArtifactPart is what comes next of an artifact, which will have Size bytes with the sum
// SHA256. Whoever fetches artifacts writes files of these names, so a path must lie below the
// folder that it is joined to.
type ArtifactPart struct {
	Run    int64
	Path   string
	Size   int64
	SHA256 string
	Offset int64
	Data   []byte
}

var sumPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (p ArtifactPart) check() error {
	switch {
	case !sumPattern.MatchString(p.SHA256):
		return fmt.Errorf("%w: %q is no SHA-256 sum: 64 digits in lower case", ErrInput, shortened(p.SHA256))
	case p.Size < 0 || p.Size > labapi.MaxArtifactBytes:
		return fmt.Errorf("%w: %s has %d bytes; at most %d are kept", ErrInput, shortened(p.Path), p.Size, labapi.MaxArtifactBytes)
	case p.Offset+int64(len(p.Data)) > p.Size:
		return fmt.Errorf("%w: %s has more bytes than the %d that it was to have", ErrInput, shortened(p.Path), p.Size)
	}
	return CheckArtifactPath(p.Path)
}

// CheckArtifactPath refuses what could be another file than one below the folder that it is
// joined to, on any system.
func CheckArtifactPath(name string) error {
	inside := name != "" && !strings.HasPrefix(name, "/") && path.Clean(name) == name && name != "." && name != ".." && !strings.HasPrefix(name, "../")
	odd := strings.ContainsFunc(name, func(r rune) bool { return r == '\\' || r == ':' || unicode.IsControl(r) })
	if !inside || odd || len(name) > maxArtifactPath || !utf8.ValidString(name) {
		return fmt.Errorf("%w: %q is no path of an artifact: relative, without . and .., backslashes, colons and control characters, at most %d bytes", ErrInput, shortened(name), maxArtifactPath)
	}
	return nil
}

// AppendArtifact appends to an artifact and returns where it ends now. It fails with a
// LogOffsetError unless the part begins where the artifact ends. One that came whole with
// another sum is thrown away.
func (l *Lab) AppendArtifact(ctx context.Context, p ArtifactPart) (end int64, err error) {
	if err := p.check(); err != nil {
		return 0, err
	}
	name, err := l.enterArtifact(ctx, p)
	if err != nil {
		return 0, err
	}
	end, err = l.appendStream(ctx, LogPart{Run: p.Run, Stream: name, Offset: p.Offset, Data: p.Data, Cap: p.Size})
	if err != nil || end < p.Size {
		return end, err
	}
	differs := false
	err = l.change(ctx, "complete artifact "+p.Path, func(tx *sql.Tx) error {
		s, err := l.readStream(ctx, tx, p.Run, name)
		if err != nil || s.sum != "" {
			return err
		}
		if err := s.seal(ctx, tx); err != nil {
			return err
		}
		if differs = s.sum != p.SHA256; differs {
			return dropStream(ctx, tx, p.Run, name)
		}
		return nil
	})
	if err == nil && differs {
		err = &LogOffsetError{Given: end}
	}
	return end, err
}

// enterArtifact returns the stream of an artifact, which it enters if it is new. Another file
// of the same path takes its place.
func (l *Lab) enterArtifact(ctx context.Context, p ArtifactPart) (name string, err error) {
	err = l.change(ctx, "enter artifact "+p.Path, func(tx *sql.Tx) error {
		var number, count, total int64
		// The row of the run is the mutex of its artifacts.
		if err := tx.QueryRowContext(ctx, "SELECT id FROM hostsched_runs WHERE id = ?"+l.db.Dialect.ForUpdate, p.Run).Scan(&number); err != nil {
			return orNoRow(err, fmt.Errorf("%w: there is no run %d", ErrNotFound, p.Run))
		}
		var size int64
		var sum string
		err := tx.QueryRowContext(ctx, "SELECT number, size, sha256 FROM hostsched_artifacts WHERE run_id = ? AND path = ?", p.Run, p.Path).Scan(&number, &size, &sum)
		known := err == nil
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		name = artifactStream(number)
		if known && size == p.Size && sum == p.SHA256 {
			return nil
		}
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(MAX(number), 0) + 1, COALESCE(SUM(size), 0) FROM hostsched_artifacts WHERE run_id = ?", p.Run).Scan(&count, &number, &total); err != nil {
			return err
		}
		if count >= labapi.MaxArtifacts || total+p.Size > labapi.MaxArtifactBytes {
			return fmt.Errorf("%w: a run may leave %d files and %d bytes, and run %d has %d and %d already", ErrInput, labapi.MaxArtifacts, labapi.MaxArtifactBytes, p.Run, count, total)
		}
		if known {
			if err := l.dropArtifact(ctx, tx, p, name); err != nil {
				return err
			}
		}
		name = artifactStream(number)
		_, err = tx.ExecContext(ctx, "INSERT INTO hostsched_artifacts (run_id, path, number, size, sha256) VALUES (?, ?, ?, ?, ?)", p.Run, p.Path, number, p.Size, p.SHA256)
		return err
	})
	return name, err
}

func (l *Lab) dropArtifact(ctx context.Context, tx *sql.Tx, p ArtifactPart, stream string) error {
	if err := dropStream(ctx, tx, p.Run, stream); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM hostsched_artifacts WHERE run_id = ? AND path = ?", p.Run, p.Path)
	return err
}

func artifactStream(number int64) string { return fmt.Sprint("artifact-", number) }

// Artifacts lists the files that a run left.
func (l *Lab) Artifacts(ctx context.Context, run int64) ([]labapi.Artifact, error) {
	if err := l.requireRun(ctx, run); err != nil {
		return nil, err
	}
	out := []labapi.Artifact{}
	err := l.each(ctx, "list artifacts", "SELECT a.path, a.size, a.sha256, s.sha256 IS NOT NULL AND s.sha256 = a.sha256 FROM hostsched_artifacts a"+artifactJoin+" WHERE a.run_id = ? ORDER BY a.path", []any{run}, func(scan sqldb.Scanner) error {
		var a labapi.Artifact
		err := scan(&a.Path, &a.Size, &a.SHA256, &a.Complete)
		out = append(out, a)
		return err
	})
	return out, err
}

const artifactJoin = " LEFT JOIN hostsched_logs s ON s.run_id = a.run_id AND s.stream = CONCAT('artifact-', a.number)"

// Artifact returns a file that a run left, and the stream with its bytes.
func (l *Lab) Artifact(ctx context.Context, run int64, name string) (a labapi.Artifact, stream string, err error) {
	all, err := l.Artifacts(ctx, run)
	if err != nil {
		return a, "", err
	}
	i := slices.IndexFunc(all, func(a labapi.Artifact) bool { return a.Path == name })
	if i < 0 || !all[i].Complete {
		return a, "", fmt.Errorf("%w: run %d left no file %q, or not all of it came", ErrNotFound, run, shortened(name))
	}
	var number int64
	err = l.db.Pool.QueryRowContext(ctx, "SELECT number FROM hostsched_artifacts WHERE run_id = ? AND path = ?", run, name).Scan(&number)
	return all[i], artifactStream(number), l.explain(orNoRow(err, fmt.Errorf("%w: it was deleted", ErrNotFound)), "look an artifact up")
}

// EnterResults keeps the results of single tests of a run, in the transaction that ends it. A
// repeated call changes nothing.
func (l *Lab) EnterResults(ctx context.Context, tx sqldb.Querier, run int64, tests []labapi.TestResult) error {
	rows := make([][]any, 0, len(tests))
	for i, t := range tests {
		rows = append(rows, []any{run, i + 1, cut(printableText(t.Name), maxTestName), t.Status, t.Millis, cut(printableText(t.Message), maxTestMessage)})
	}
	return insert(ctx, tx, l.db.Dialect.InsertIgnore, "hostsched_results (run_id, number, name, status, millis, message)", "(?, ?, ?, ?, ?, ?)", rows)
}

// printableText is a text of others as a column can hold it.
func printableText(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// Results lists the results of single tests of a run, those of one status if it is not empty.
func (l *Lab) Results(ctx context.Context, run int64, status string, after int64, limit int) (page labapi.Page[labapi.TestResult], err error) {
	if err := l.requireRun(ctx, run); err != nil {
		return page, err
	}
	page.Items = []labapi.TestResult{}
	var last int64
	err = l.each(ctx, "list results", "SELECT number, name, status, millis, message FROM hostsched_results WHERE run_id = ? AND number > ? AND (? = '' OR status = ?) ORDER BY number LIMIT ?", []any{run, after, status, status, limit + 1}, func(scan sqldb.Scanner) error {
		var number int64
		var t labapi.TestResult
		err := scan(&number, &t.Name, &t.Status, &t.Millis, &t.Message)
		if len(page.Items) == limit {
			page.After = Cursor(last)
			return err
		}
		page.Items, last = append(page.Items, t), number
		return err
	})
	return page, err
}
