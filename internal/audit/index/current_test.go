package index

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Answers that are asked for at once are the same as one after the other: what an index stands still in is one transaction of one connection.
func TestCurrentAtOnce(t *testing.T) {
	backends(t, func(t *testing.T, fresh func(testing.TB) backend) {
		w, b := newWorld(t), fresh(t)
		w.grow(300)
		if err := b.open(t, b.Keep).Extend(t.Context(), w.copies(t), nil); err != nil {
			t.Fatal(err)
		}
		w.grow(50)
		c, err := b.Usable(t.Context(), w.copies(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := hashOf(t, c)
		var all sync.WaitGroup
		wrong := make([]error, 8)
		for i := range wrong {
			f, by := w.filter(false)
			uses, err := c.Uses(t.Context(), f, by...)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				for range 10 {
					got, err := c.Uses(t.Context(), f, by...)
					hash, also := c.Hash(t.Context())
					if hash != want {
						also = errors.Join(also, fmt.Errorf("hash %s, want %s", hash, want))
					}
					if d := cmp.Diff(uses, got, cmpopts.EquateEmpty()); d != "" {
						also = errors.Join(also, errors.New(d))
					}
					wrong[i] = errors.Join(wrong[i], err, also)
				}
			})
		}
		all.Wait()
		if err := errors.Join(wrong...); err != nil {
			t.Error(err)
		}
	})
}
