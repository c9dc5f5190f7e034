package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

// maxPart is how many bytes of a log or a file a request has at most.
const maxPart = 1 << 20

// logRoutes take what runs leave: logs, and files.
func (a *API) logRoutes() {
	log := operation("append-log", http.MethodPut, "/runs/{run}/logs/{stream}", "Append to a log")
	log.Description = "The part begins where the log ends: otherwise 409 says where that is. Over the cap 413 says that the rest is only counted."
	log.Errors = []int{http.StatusRequestEntityTooLarge}
	log.MaxBodyBytes = maxPart
	route(a, OfRuns, log, func(ctx context.Context, in *struct {
		RunPath
		Stream  string `path:"stream" pattern:"^[a-z]{1,32}$"`
		Offset  int64  `query:"offset" minimum:"0" required:"true" doc:"Where the part begins."`
		RawBody []byte `contentType:"application/octet-stream"`
	}) (*body[labapi.LogEnd], error) {
		end, err := a.cfg.Lab().AppendLog(ctx, lab.LogPart{Run: in.Run, Stream: in.Stream, Offset: in.Offset, Data: in.RawBody, Cap: a.cfg.Runs().LogCap})
		renewed, err := a.renewedWith(ctx, err)
		return answer(labapi.LogEnd{End: end, RunAnswer: renewed}, err)
	})
	file := operation("append-artifact", http.MethodPut, "/runs/{run}/artifacts/{path}", "Append to a file that the run leaves")
	file.Description = "As a log. When all bytes of the file have come and have another sum, 409 says to send it from its beginning."
	file.MaxBodyBytes = maxPart
	route(a, OfRuns, file, func(ctx context.Context, in *struct {
		RunPath
		Path    string `path:"path" maxLength:"255"`
		Offset  int64  `query:"offset" minimum:"0"`
		Size    int64  `query:"size" minimum:"0" required:"true" doc:"How many bytes the whole file has."`
		SHA256  string `query:"sha256" required:"true" minLength:"64" maxLength:"64" doc:"The sum of the whole file."`
		RawBody []byte `contentType:"application/octet-stream"`
	}) (*body[labapi.ArtifactEnd], error) {
		end, err := a.cfg.Lab().AppendArtifact(ctx, lab.ArtifactPart{Run: in.Run, Path: in.Path, Size: in.Size, SHA256: in.SHA256, Offset: in.Offset, Data: in.RawBody})
		renewed, err := a.renewedWith(ctx, err)
		return answer(labapi.ArtifactEnd{End: end, RunAnswer: renewed}, err)
	})
}

// renewedWith renews the lease of the run that calls, also if the log is full or goes on
// elsewhere: its claimant is there.
func (a *API) renewedWith(ctx context.Context, err error) (labapi.RunAnswer, error) {
	out, terr := a.cfg.Runs().Touch(ctx, runOf(ctx))
	var offset *lab.LogOffsetError
	switch {
	case terr != nil:
		return out, terr
	case errors.As(err, &offset):
		return out, &logProblem{labapi.LogProblem{
			Type: apiframe.TypePrefix + labapi.ProblemLogOffset, Title: http.StatusText(http.StatusConflict), Status: http.StatusConflict, Detail: err.Error(), ExpectedOffset: offset.Expected,
		}}
	}
	return out, err
}

// logProblem is the problem document of a part that does not fit.
type logProblem struct{ labapi.LogProblem }

var _ huma.StatusError = &logProblem{}

// Error implements error.
func (p *logProblem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *logProblem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *logProblem) ContentType(string) string { return "application/problem+json" }

// MarshalJSON implements json.Marshaler.
func (p *logProblem) MarshalJSON() ([]byte, error) { return json.Marshal(p.LogProblem) }
