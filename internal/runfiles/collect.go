package runfiles

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/testresults"
)

// Wanted is what a job says that it leaves.
type Wanted struct {
	// Artifacts and ResultFiles are patterns of paths, in which ** stands for any folders.
	Artifacts, ResultFiles []string
	// Results is the form of the results, empty for none.
	Results string
	// Output has what the job said, empty if nobody knows: results in the form of TAP may be
	// there.
	Output string
	// Mask hides secrets in what tests say.
	Mask func(string) string
	// Owner is whose files are kept: another user's may have come there by a hard link.
	Owner uint32
}

// defaults are the files with results where a job names none. Others of these names may be
// something else.
var defaults = map[string]string{testresults.JUnit: "**/*.xml", testresults.TAP: "**/*.tap"}

const (
	// maxEntries is how many files and folders are looked at.
	maxEntries = 100_000
	// maxProblems is how many things that cannot be kept are named.
	maxProblems = 5
)

// errMany ends the search.
var errMany = errors.New("too many files")

// Found is what a run left.
type Found struct {
	Tests []labapi.TestResult
	// Problems say what could not be kept, each in one line.
	Problems []string

	root  *os.Root
	files []*file
	more  int
}

// file is a file to keep, and how much of it the servers have.
type file struct {
	agentclient.Artifact
	sent     int64
	restarts int
	done     bool
}

// Collect looks for what a run left in a folder.
func Collect(ctx context.Context, dir string, w Wanted) *Found {
	f := &Found{}
	if len(w.Artifacts) == 0 && w.Results == "" {
		return f
	}
	var err error
	if f.root, err = os.OpenRoot(dir); err != nil {
		f.problem("files: %s", err)
		return f
	}
	artifacts, results := f.find(ctx, w)
	f.readResults(results, w)
	f.sum(ctx, slices.Compact(slices.Sorted(slices.Values(append(artifacts, results...)))), w.Owner)
	return f
}

// Close ends the use of the folder.
func (f *Found) Close() error {
	if f.root == nil {
		return nil
	}
	return f.root.Close()
}

// Detail is one line of all problems, empty if there are none.
func (f *Found) Detail() string {
	text := strings.Join(f.Problems, "; ")
	if f.more > 0 {
		text += fmt.Sprintf("; and %d more", f.more)
	}
	return text
}

func (f *Found) problem(format string, args ...any) {
	if len(f.Problems) == maxProblems {
		f.more++
		return
	}
	f.Problems = append(f.Problems, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}

// find walks through the folder once.
func (f *Found) find(ctx context.Context, w Wanted) (artifacts, results []string) {
	patterns := w.ResultFiles
	if len(patterns) == 0 && w.Results != "" {
		patterns = []string{defaults[w.Results]}
	}
	seen := 0
	err := fs.WalkDir(f.root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			f.problem("files: %s", err)
			return fs.SkipDir
		}
		if seen++; seen > maxEntries {
			return errMany
		}
		if !e.Type().IsRegular() {
			return ctx.Err()
		}
		if matches(w.Artifacts, path) {
			artifacts = append(artifacts, path)
		}
		if w.Results != "" && matches(patterns, path) {
			results = append(results, path)
		}
		return ctx.Err()
	})
	if errors.Is(err, errMany) {
		f.problem("files: the run's folder has more than %d files, and not all were looked at", maxEntries)
	}
	return artifacts, results
}

func matches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := doublestar.Match(strings.TrimPrefix(p, "./"), path)
		return err == nil && ok // a pattern that is none was refused with the job
	})
}

// open opens a plain file and nothing else, and does not wait for a pipe.
func (f *Found) open(path string, owner uint32) (*os.File, fs.FileInfo, error) {
	file, err := f.root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no plain file")
	}
	if err == nil && !owned(info, owner) {
		err = errors.New("it is a link to another user's file")
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// owned tells whether a file is of the user whose run it was. A file with one name only was
// made there, whoever made it.
func owned(info fs.FileInfo, owner uint32) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Nlink == 1 || stat.Uid == owner)
}

// readResults reads the files with results. Those that a job did not name may be others.
func (f *Found) readResults(paths []string, w Wanted) {
	if w.Results == "" {
		return
	}
	named := len(w.ResultFiles) > 0
	read := 0
	for _, path := range paths {
		if f.readResult(path, w, named) {
			read++
		}
	}
	if read == 0 && !named && w.Results == testresults.TAP && w.Output != "" {
		read += f.readOutput(w)
	}
	if read == 0 && len(f.Problems) == 0 {
		where := strings.Join(w.ResultFiles, ", ")
		if !named {
			where = defaults[w.Results]
		}
		f.problem("results: no file %s has results in the form of %s", where, w.Results)
	}
	if w.Mask == nil {
		return
	}
	for i := range f.Tests {
		f.Tests[i].Name, f.Tests[i].Message = w.Mask(f.Tests[i].Name), w.Mask(f.Tests[i].Message)
	}
}

// readResult tells whether a file has results.
func (f *Found) readResult(path string, w Wanted, named bool) bool {
	file, _, err := f.open(path, w.Owner)
	if err != nil {
		f.problem("results: %s: %s", path, err)
		return false
	}
	defer file.Close() //nolint:errcheck // it was only read
	return f.take(path, w.Results, file, named)
}

// readOutput reads results out of what the job said. All of that may be none.
func (f *Found) readOutput(w Wanted) int {
	file, err := os.Open(w.Output)
	if err != nil {
		f.problem("results: %s", err)
		return 0
	}
	defer file.Close() //nolint:errcheck // it was only read
	if f.take("output", w.Results, file, false) {
		return 1
	}
	return 0
}

func (f *Found) take(name, form string, from io.Reader, named bool) bool {
	tests, err := testresults.Parse(form, from)
	if errors.Is(err, testresults.ErrOther) && !named {
		return false
	}
	if err != nil {
		f.problem("results: %s: %s", name, err)
	}
	if room := testresults.MaxTests - len(f.Tests); len(tests) > room {
		f.problem("results: %s: the run has more than %d tests", name, testresults.MaxTests)
		tests = tests[:room]
	}
	f.Tests = append(f.Tests, tests...)
	return true
}

// sum finds out how large files are, and their sums.
func (f *Found) sum(ctx context.Context, paths []string, owner uint32) {
	var total int64
	for _, path := range paths {
		if ctx.Err() != nil {
			return
		}
		if len(f.files) == labapi.MaxArtifacts {
			f.problem("files: at most %d are kept, and %s is one more", labapi.MaxArtifacts, path)
			continue
		}
		size, sum, err := f.sumOf(path, owner, labapi.MaxArtifactBytes-total)
		if err != nil {
			f.problem("files: %s: %s", path, err)
			continue
		}
		total += size
		f.files = append(f.files, &file{Artifact: agentclient.Artifact{Path: path, Size: size, SHA256: sum}})
	}
}

func (f *Found) sumOf(path string, owner uint32, room int64) (int64, string, error) {
	file, info, err := f.open(path, owner)
	if err != nil {
		return 0, "", err
	}
	defer file.Close() //nolint:errcheck // it was only read
	if info.Size() > room {
		return 0, "", fmt.Errorf("it has %d bytes; all files of a run may have %d", info.Size(), int64(labapi.MaxArtifactBytes))
	}
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(file, info.Size()))
	return n, hex.EncodeToString(hash.Sum(nil)), err
}
