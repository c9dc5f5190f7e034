// Package app puts the parts together: configuration, the order in which things
// start and stop, and what a process does from its first line to its exit.
//
// A setting has one key. In the YAML file it is nested (etcd.endpoints), as a
// flag it has dashes (--etcd-endpoints), in the environment capitals
// (HOSTSCHED_ETCD_ENDPOINTS). A flag beats the environment, the environment
// beats the file, the file beats the default.
package app
