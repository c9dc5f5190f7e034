package apiframe_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestFaultsOfTheDatabase: whatever is wrong with the database, callers are told, and know that
// it is not their fault.
func TestFaultsOfTheDatabase(t *testing.T) {
	for fault, name := range map[error]string{
		sqldb.ErrUnreachable: "database-away", sqldb.ErrBusy: "database-busy", sqldb.ErrFull: "database-full", sqldb.ErrPrivilege: "missing-privilege",
		sqldb.ErrServer: "database-refuses", sqldb.ErrAccess: "database-refuses", sqldb.ErrSchema: "schema-does-not-fit",
	} {
		err := apiframe.AsProblem(fmt.Errorf("%w: submit a job; do this", fault), apiframe.Database, hclog.NewNullLogger())
		var model *huma.ErrorModel
		require.ErrorAs(t, err, &model)
		require.Equal(t, apiframe.TypePrefix+name, model.Type)
		require.GreaterOrEqual(t, model.Status, http.StatusInternalServerError)
		require.Contains(t, model.Detail, "do this")
	}
}
