// Package jobspec reads and checks what people submit: jobs and suites, in JSON or YAML.
//
//   - tree.go turns a text of either form into one tree, and refuses what only looks right,
//     such as a key that is there twice.
//   - keys.go finds unknown keys, and the known one that was probably meant.
//   - read.go holds the tree to the schema and makes the values of labapi of it.
//   - check.go has the rules that no schema can express.
//
// It knows no database and no network: whether a label or a host exists is not its business.
package jobspec
