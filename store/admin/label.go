package admin

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/store/sqldb"
)

// LabelID returns the row of a label. Which name is which label the database says.
func (lab *Lab) LabelID(ctx context.Context, name string) (id int64, err error) {
	err = lab.Pool.QueryRowContext(ctx, "SELECT id FROM afe_labels WHERE name = ? ORDER BY id LIMIT 1", name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("%w: there is no label %q in %s", ErrInput, name, lab.Target())
	}
	return id, sqldb.Explain(err, "look for label "+name, lab.Target())
}
