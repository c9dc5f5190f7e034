// Package deploy has tests alone: deploy/kubernetes is rendered and held to the types of the
// API of Kubernetes, deploy/compose.yaml to the specification of Compose. They are here
// because the program needs none of these libraries.
package deploy
