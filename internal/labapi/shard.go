package labapi

// ShardChange says why somebody changes what is done in a shard.
type ShardChange struct {
	Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Others see it."`
}

// Switchover asks for another leader of a shard.
type Switchover struct {
	ShardChange
	To string `json:"to,omitempty" maxLength:"128" doc:"The server that should lead; left out, it is the one that would follow. The word any ends an earlier request."`
}

// Handover is what became of a Switchover.
type Handover struct {
	Shard string `json:"shard"`
	From  string `json:"from,omitempty" doc:"The server that led before, if any did."`
	To    string `json:"to" doc:"The server that leads now, or any."`
	// Unchanged is left out by servers of former versions.
	Unchanged bool `json:"unchanged,omitempty" doc:"Nothing was changed: the server led already, as was asked for, or any server might lead."`
	// Millis is how long it took.
	Millis int64 `json:"took_ms"`
}
