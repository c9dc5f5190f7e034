// Command openapi writes the description of the agents' API into the repository. It runs in
// internal/agentapi: 'go generate ./internal/agentapi'.
package main

import (
	"log"
	"os"

	"github.com/hostsched/hostsched/internal/agentapi"
)

func main() {
	text, err := agentapi.Document()
	if err == nil {
		err = os.WriteFile("openapi.json", append(text, '\n'), 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}
