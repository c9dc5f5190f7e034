// Command openapi writes the description of the API into the repository. It runs in
// internal/api: 'go generate ./internal/api'.
package main

import (
	"log"
	"os"

	"github.com/hostsched/hostsched/internal/api"
)

func main() {
	document, err := api.Document()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("openapi.json", document, 0o644); err != nil {
		log.Fatal(err)
	}
}
