// Command hostsched is a highly available host scheduler for hardware test labs.
package main
