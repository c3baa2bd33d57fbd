package workload_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

func TestVerify(t *testing.T) {
	e := estatetest.New(t)
	keys, good := e.Workloads(), e.Proof("research-agent")
	change := func(f func([]byte) []byte) workload.Proof {
		return workload.Proof{Kind: "bearer", Value: f(bytes.Clone(good.Value))}
	}
	other, _, err := estate.NewKey("demo", "research-agent", e.Now, time.Hour, e.Ada)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		proof workload.Proof
		at    time.Time
		err   error
	}{
		{"good", good, e.Now, nil},
		{"at its first instant", good, e.Now.Add(-time.Minute), nil},
		{"before", good, e.Now.Add(-time.Minute - 1), workload.ErrExpired},
		{"at its last instant", good, e.Now.Add(24*time.Hour - time.Minute - 1), nil},
		{"after", good, e.Now.Add(24*time.Hour - time.Minute), workload.ErrExpired},
		{"unknown", workload.Proof{Kind: "bearer", Value: other.Reveal()}, e.Now, workload.ErrUnknown},
		{"another kind", workload.Proof{Kind: "pop", Value: good.Value}, e.Now, workload.ErrProof},
		{"nothing", workload.Proof{}, e.Now, workload.ErrProof},
		{"one character changed", change(func(b []byte) []byte { b[10] ^= 1; return b }), e.Now, workload.ErrProof},
		{"upper case", change(bytes.ToUpper), e.Now, workload.ErrProof},
		{"cut", change(func(b []byte) []byte { return b[:len(b)-1] }), e.Now, workload.ErrProof},
		{"longer", change(func(b []byte) []byte { return append(b, 'a') }), e.Now, workload.ErrProof},
		{"a newline in it", change(func(b []byte) []byte { b[20] = '\n'; return b }), e.Now, workload.ErrProof},
		{"huge", workload.Proof{Kind: "bearer", Value: bytes.Repeat([]byte("a"), 1<<20)}, e.Now, workload.ErrProof},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := keys.Verify(c.proof, c.at)
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if err == nil && (id.Workload != "research-agent" || id.Unit != "research" || id.Tenant != "acme" || id.Level != 0 || id.Proof != "bearer" || id.KeyID != id.SHA256[:16]) {
				t.Errorf("%+v", id)
			}
			if err != nil && !cmp.Equal(id, workload.Identity{}) {
				t.Errorf("an identity with an error: %+v", id)
			}
		})
	}
}

func TestNewKeysLeavesOut(t *testing.T) {
	e := estatetest.New(t)
	sum := strings.Repeat("ab", 32)
	for name, r := range map[string]statement.WorkloadKey{
		"unknown workload": {Workload: "other", SHA256: sum}, "no hash": {Workload: "research-agent", SHA256: "ab"}, "no hex": {Workload: "research-agent", SHA256: "xyz"},
	} {
		if n := workload.NewKeys(e.Set, []*statement.WorkloadKey{&r}).Len(); n != 0 {
			t.Errorf("%s: %d keys", name, n)
		}
	}
}

// A record over the hash of another workload's key takes nothing over: both are refused.
func TestClaimedTwice(t *testing.T) {
	e := estatetest.New(t)
	var mine *statement.WorkloadKey
	for _, r := range e.KeyRecords {
		if r.Workload == "research-agent" {
			mine = r
		}
	}
	theirs, later, shorter := *mine, *mine, *mine
	theirs.Workload, theirs.NotAfter = "support-agent", mine.NotAfter.Add(time.Hour)
	later.NotAfter = mine.NotAfter.Add(2 * time.Hour)
	shorter.NotBefore, shorter.NotAfter, shorter.Networks = mine.NotBefore.Add(time.Second), mine.NotAfter.Add(-time.Hour), []string{"10.0.0.0/8"}
	for name, records := range map[string][]*statement.WorkloadKey{
		"after": {mine, &theirs}, "before": {&theirs, mine}, "between": {mine, &theirs, &later}, "twice": {&theirs, mine, &theirs},
	} {
		if id, err := workload.NewKeys(e.Set, records).Verify(e.Proof("research-agent"), e.Now); !errors.Is(err, workload.ErrUnknown) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	for _, records := range [][]*statement.WorkloadKey{{mine, &later}, {&later, mine}} {
		if id, err := workload.NewKeys(e.Set, records).Verify(e.Proof("research-agent"), e.Now); err != nil || !id.NotAfter.Equal(mine.NotAfter) {
			t.Errorf("drawn out: %+v, %v", id, err)
		}
	}
	for _, records := range [][]*statement.WorkloadKey{{mine, &shorter}, {&shorter, mine}, {&shorter, mine, &later}} {
		keys := workload.NewKeys(e.Set, records)
		if id, err := keys.Verify(e.Proof("research-agent"), e.Now); err != nil || !id.NotAfter.Equal(shorter.NotAfter) || len(id.Networks) != 1 {
			t.Errorf("cut short: %+v, %v", id, err)
		}
		if _, err := keys.Verify(e.Proof("research-agent"), mine.NotBefore); !errors.Is(err, workload.ErrExpired) {
			t.Errorf("before the later beginning: %v", err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("rv_"))
	f.Add(workload.Encode([32]byte{1, 2, 3}))
	e := estatetest.New(f)
	keys := e.Workloads()
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := keys.Verify(workload.Proof{Kind: "bearer", Value: b}, e.Now); err == nil {
			t.Fatalf("%q is %+v", b, id)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	e := estatetest.New(b)
	keys, proof := e.Workloads(), e.Proof("research-agent")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.Verify(proof, e.Now); err != nil {
			b.Fatal(err)
		}
	}
}
