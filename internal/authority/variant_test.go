package authority

import (
	"errors"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/statement"
)

// TestVariants: a record with a signature that says nothing is refused at the door, and another spelling of a record that is published
// is no other record: nothing is kept, entered or sent.
func TestVariants(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	file := r.revocation(t, 1)
	env, _, err := feed.ParseRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	env.Signatures = append(env.Signatures, statement.Signature{KeyID: "zzz", Sig: make([]byte, 64)})
	variant, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Take(&feed.Frame{Record: variant}, "post"); !errors.Is(err, statement.ErrRefused) {
		t.Errorf("a signature by nobody of the charter: %v", err)
	}
	if _, err := r.Take(&feed.Frame{Record: file}, "post"); err != nil {
		t.Fatal(err)
	}
	before := r.Status()
	if _, err := r.Take(&feed.Frame{Record: variant}, "post"); err != nil {
		t.Errorf("once more: %v", err)
	}
	after := r.Status()
	if after.Records != before.Records || after.Sum != before.Sum {
		t.Errorf("%+v after %+v", after, before)
	}
}

// TestPostsArePaced: who posts without end is told to wait before anything is verified.
func TestPostsArePaced(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	now, taken := time.Now(), 0
	for range 10 * postBurst {
		if r.paced(now) {
			taken++
		}
	}
	if taken < postBurst || taken > postBurst+1 || r.paced(now) || !r.paced(now.Add(time.Second)) {
		t.Errorf("%d of %d at once", taken, 10*postBurst)
	}
}
