// Package testresults reads the results of single tests from files that jobs leave.
//
//   - testresults.go has what the forms have in common: their bounds, and what a test is.
//   - junit.go reads JUnit's XML, as most tools of most languages write it.
//   - tap.go reads the Test Anything Protocol, versions 12 to 14.
//
// Whoever wrote the files is not trusted: a file of any size and content costs bounded memory
// and time, and what was read up to a mistake is kept beside the error.
package testresults
