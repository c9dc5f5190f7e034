package runfiles

import (
	"context"
	"errors"
	"io"

	"github.com/hostsched/hostsched/internal/agentclient"
)

// part is how much of a file is sent in one call.
const part = 512 << 10

// restarts is how often a file is sent from its beginning, whose bytes came with another sum.
const restarts = 3

// Put sends a part of a file and returns where the next one begins.
type Put func(ctx context.Context, file agentclient.Artifact, offset int64, data []byte) (end int64, err error)

// Send sends what the servers do not have yet. It returns an error that passes, after which it
// goes on if it is called again, or one that says that nobody wants the files any more. What
// the servers refuse is a problem.
func (f *Found) Send(ctx context.Context, put Put) error {
	for _, one := range f.files {
		for !one.done {
			if err := f.sendPart(ctx, one, put); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *Found) sendPart(ctx context.Context, one *file, put Put) error {
	data := make([]byte, min(part, one.Size-one.sent))
	if err := f.readAt(one, data); err != nil {
		return f.giveUp(one, err)
	}
	end, err := put(ctx, one.Artifact, one.sent, data)
	var offset *agentclient.OffsetError
	switch {
	case errors.As(err, &offset):
		if offset.Expected <= one.sent {
			one.restarts++
		}
		if one.restarts > restarts || offset.Expected > one.Size {
			return f.giveUp(one, err)
		}
		one.sent = offset.Expected
		return ctx.Err()
	case errors.Is(err, agentclient.ErrRefused):
		return f.giveUp(one, err)
	case err != nil:
		return err
	}
	one.sent = end
	one.done = end >= one.Size
	return nil
}

func (f *Found) giveUp(one *file, err error) error {
	one.done = true
	f.problem("files: %s is not kept: %s", one.Path, err)
	return nil
}

func (f *Found) readAt(one *file, data []byte) error {
	file, err := f.root.Open(one.Path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	_, err = io.ReadFull(io.NewSectionReader(file, one.sent, int64(len(data))), data)
	return err
}

// Left is how many bytes the servers do not have yet.
func (f *Found) Left() (bytes int64) {
	for _, one := range f.files {
		if !one.done {
			bytes += one.Size - one.sent
		}
	}
	return bytes
}
