package labclient

import (
	"context"
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
