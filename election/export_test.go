package election

// ShowFirst is how long a revocation waits for this replica's own key.
const ShowFirst = showFirst
