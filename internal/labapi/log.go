package labapi

// Log is a stream of output of a run.
type Log struct {
	Stream   string `json:"stream"`
	Size     int64  `json:"size" doc:"Bytes that the servers have."`
	Cut      int64  `json:"cut,omitempty" doc:"Bytes over the cap, which are not kept."`
	Complete bool   `json:"complete" doc:"Whether all of it is here."`
	SHA256   string `json:"sha256,omitempty"`
}

// LogPart is the data of an event of a log that is followed. The id of the event is where the
// next part begins.
type LogPart struct {
	Offset int64  `json:"offset"`
	Data   []byte `json:"data" doc:"Base64: a log may have any bytes."`
}

// LogOver is the data of the last event of a log that is followed, whose type is end.
type LogOver struct {
	Size int64 `json:"size"`
	Cut  int64 `json:"cut,omitempty"`
	// Lost means that the run was lost, so that the end of its log may be missing.
	Lost bool `json:"lost,omitempty"`
}

// Bounds of what a run may leave.
const (
	MaxArtifacts     = 1000
	MaxArtifactBytes = 1 << 30
)

// Artifact is a file that a run left.
type Artifact struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Complete tells whether all of it is here.
	Complete bool `json:"complete"`
}

// ArtifactEnd is how much of an artifact the servers have.
type ArtifactEnd struct {
	End int64 `json:"end"`
	RunAnswer
}
