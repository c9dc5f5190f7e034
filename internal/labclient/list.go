package labclient

import (
	"context"
	"io"
	"maps"
	"net/url"
	"strconv"

	"github.com/hostsched/hostsched/internal/labapi"
)

// pageSize is the most that every list gives at once.
const pageSize = 1000

// List reads a list up to a limit, page by page; all of it if limit is 0.
func List[T any](ctx context.Context, c *Client, path string, query url.Values, limit int) ([]T, error) {
	query = maps.Clone(query)
	if query == nil {
		query = url.Values{}
	}
	all := []T{}
	for {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(all))
		}
		query.Set("limit", strconv.Itoa(size))
		var page labapi.Page[T]
		if err := c.Get(ctx, path, query, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.After == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
		query.Set("after", page.After)
	}
}

// readStep is how many bytes of a log or a file are read with one call.
const readStep = 1 << 20

// ReadBytes writes what a path has, from an offset on. Each call asks for some of it, so what
// is long takes as long as it takes, and goes on with another server.
func (c *Client) ReadBytes(ctx context.Context, path string, offset int64, to io.Writer) error {
	for {
		var part []byte
		query := url.Values{"offset": {strconv.FormatInt(offset, 10)}, "limit": {strconv.Itoa(readStep)}}
		if err := c.Get(ctx, path, query, &part); err != nil || len(part) == 0 {
			return err
		}
		if _, err := to.Write(part); err != nil {
			return err
		}
		offset += int64(len(part))
	}
}
