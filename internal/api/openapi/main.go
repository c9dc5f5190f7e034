// Command openapi writes the description of the API and the schema of job specs into the
// repository. It runs in internal/api: 'go generate ./internal/api'.
package main

import (
	"log"
	"os"

	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/jobspec"
)

func main() {
	write("openapi.json", api.Document)
	write("../../docs/job-spec.schema.json", jobspec.Schema)
}

func write(file string, make func() ([]byte, error)) {
	text, err := make()
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}
