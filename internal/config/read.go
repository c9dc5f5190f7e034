package config

import (
	"fmt"
	"io"
	"os"
)

// maxFile bounds the files that are read as a whole. Nobody writes more settings than that,
// and whoever names the wrong file, like a disk or a dump, must not fill the memory.
const maxFile = 1 << 20

// readFile reads a small file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes; is it the right file?", path, maxFile)
	}
	return data, err
}
