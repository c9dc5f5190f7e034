// Package config holds every setting of a process: from flags, the environment,
// our YAML file and Autotest's configuration files.
//
// A setting has one key. In the YAML file it is nested (etcd.endpoints), as a
// flag it has dashes (--etcd-endpoints), in the environment capitals
// (HOSTSCHED_ETCD_ENDPOINTS). A flag beats the environment, the environment
// beats the file, the file beats the default.
package config
