module github.com/hostsched/hostsched

go 1.26.8

require github.com/bits-and-blooms/bitset v1.29.0
