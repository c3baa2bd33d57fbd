// Package lend lends memory for bodies that are held whole: fresh memory for each is zeroed, faulted in and collected, which for
// 64 KiB costs more than reading them.
package lend

import (
	"math/bits"
	"sync"
)

const (
	smallest = 12 // log2 of the least that is lent, in bytes
	largest  = 30

	// Most is the most that is lent at once, in bytes.
	Most = 1 << largest
)

// Pool lends memory in sizes of 4 KiB, 8 KiB, … 1 GiB. The zero Pool is ready. Safe for concurrent use.
type Pool struct {
	sizes [largest - smallest + 1]sync.Pool // of *[]byte
}

// class is the index of the smallest size that holds n bytes.
func class(n int) int {
	if n <= 1<<smallest {
		return 0
	}
	return bits.Len(uint(n-1)) - smallest
}

// Size is how many bytes Take lends for n: at most twice as many above 4 KiB.
func Size(n int) int { return 1 << (smallest + class(n)) }

// Take lends Size(n) bytes, n from 0 to Most. They may hold what an earlier borrower left there.
func (p *Pool) Take(n int) []byte {
	if b, ok := p.sizes[class(n)].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, Size(n))
}

// Give takes back what Take lent, all of it. Nobody may read or write it any more. What is never given back is the collector's.
func (p *Pool) Give(b []byte) {
	b = b[:cap(b)]
	p.sizes[class(len(b))].Put(&b)
}
