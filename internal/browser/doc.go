// Package browser starts Debian's chromium without a window, for the tests of the console and for
// its pictures in docs/.
package browser
