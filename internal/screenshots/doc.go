// Command screenshots takes the pictures of the console for docs/screenshots: it starts 'hostsched
// dev', lets some things happen that the pages show, and looks at each page.
package main
