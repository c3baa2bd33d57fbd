package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// variant is the record with one signature more, which anybody can add: it says the same.
func variant(t *testing.T, file []byte, key string) []byte {
	t.Helper()
	env, err := statement.ParseEnvelope(file)
	if err != nil {
		t.Fatal(err)
	}
	env.Signatures = append(env.Signatures, statement.Signature{KeyID: key, Sig: make([]byte, 64)})
	b, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVariants: who has one valid record makes no other one of it. Whoever offers one with a signature that says nothing is refused;
// what a captured authority publishes of them is one record, taken once.
func TestVariants(t *testing.T) {
	s, h := newStage(t), &heard{}
	f := follow(t, s.config(t, h))
	c := s.accept(t)
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	revoke := s.revocation(t, 1, s.Ada)
	for _, key := range []string{"ada-1", "aaa", "zzz", "bea-1"} { // doubled, out of order, unknown, known and not hers
		if err := f.Offer(variant(t, revoke, key), "gateway"); !errors.Is(err, statement.ErrRefused) {
			t.Errorf("with a signature by %s: %v", key, err)
		}
	}
	if err := f.Offer(revoke, "gateway"); err != nil {
		t.Fatal(err)
	}
	var all sent
	for _, file := range [][]byte{revoke, variant(t, revoke, "zzz"), variant(t, revoke, "zzzz")} {
		env, _, err := ParseRecord(file)
		if err != nil {
			t.Fatal(err)
		}
		all.add(env, file)
		c.send(t, &Frame{Record: file})
	}
	s.beat.Sum = all.files.Sum()
	c.send(t, s.heartbeat(t, nil))
	s.counted(t, f)
	if diff := cmp.Diff([]string{"set 1", "revocation"}, h.list()); diff != "" {
		t.Error(diff)
	}
	if st := f.Status(); st.Records != 1 || all.records.Len() != 1 || st.Withheld != 0 {
		t.Errorf("status %+v", st)
	}
}

// TestClosingHasNoLimit: as many records as an estate may have leave room for every revocation.
func TestClosingHasNoLimit(t *testing.T) {
	s, h := newStage(t), &heard{}
	f := follow(t, s.config(t, h))
	c := s.accept(t)
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	f.mu.Lock()
	f.own.ids = make([][32]byte, MaxRecords)
	for i := range f.own.ids {
		binary.BigEndian.PutUint32(f.own.ids[i][:], uint32(i))
	}
	f.mu.Unlock()
	key := s.record(t, "workload-key", statement.WorkloadKey{Estate: s.Set.Charter.Estate, Workload: "research-agent", Prefix: "rv_abcdefgh",
		SHA256: strings.Repeat("cd", 32), NotBefore: s.Now, NotAfter: s.Now.AddDate(0, 0, 7)}, s.Ada)
	if err := f.Offer(key, "admin"); !errors.Is(err, ErrFrame) {
		t.Errorf("one record too many: %v", err)
	}
	if err := f.Offer(s.revocation(t, 1, s.Ada), "admin"); err != nil {
		t.Errorf("a revocation: %v", err)
	}
}

// TestUntakenRevocation: a heartbeat that names a revocation which could not be taken does not count; it is taken when it comes again.
func TestUntakenRevocation(t *testing.T) {
	s, h := newStage(t), &heard{}
	f := follow(t, s.config(t, h))
	c := s.accept(t)
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	h.mu.Lock()
	h.fail = errors.New("no room")
	h.mu.Unlock()
	revoke := s.revocation(t, 1, s.Ada)
	env, _, err := ParseRecord(revoke)
	if err != nil {
		t.Fatal(err)
	}
	var all sent
	all.add(env, revoke)
	s.beat.Sum = all.files.Sum()
	counted := s.beat.Number
	c.send(t, &Frame{Record: revoke}, s.heartbeat(t, nil))
	await(t, "the heartbeat's refusal", func() bool { return f.Status().Refused >= 2 })
	if n := f.Status().Number; n != counted {
		t.Errorf("heartbeat %d counts while a revocation that it names was not taken", n)
	}
	h.mu.Lock()
	h.fail = nil
	h.mu.Unlock()
	c.send(t, &Frame{Record: revoke}, s.heartbeat(t, nil))
	s.counted(t, f)
	if diff := cmp.Diff([]string{"set 1", "revocation"}, h.list()); diff != "" {
		t.Error(diff)
	}
}

// TestClosingPassesAHungDisk: while the disk of the follower's own copy hangs, revocations take effect one after another.
func TestClosingPassesAHungDisk(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	f := follow(t, cfg)
	c := s.accept(t)
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	pipe := filepath.Join(cfg.Dir, "records") // a write to it waits for a reader
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil {
			t.Cleanup(func() { r.Close() })
			f.mu.Lock()
			for f.writes.running {
				f.idle.Wait()
			}
			f.mu.Unlock()
		}
	})
	done := make(chan error, 1)
	go func() {
		done <- errors.Join(f.Offer(s.revocation(t, 1, s.Ada), "admin"), f.Offer(s.revocation(t, 2, s.Ada), "gateway"), f.Offer(s.revocation(t, 3, s.Ada), "auditor"))
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a revocation waits for the disk")
	}
	if diff := cmp.Diff([]string{"set 1", "revocation", "revocation", "revocation"}, h.list()); diff != "" {
		t.Error(diff)
	}
}

// TestClosingPassesAHungLedger: while what a handover or an extension has to write hangs, revocations take effect and heartbeats count; whoever waits
// is told how it ended, and what failed may come again.
func TestClosingPassesAHungLedger(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	hung := make(chan error)
	cfg.OnHandover = func(*statement.Envelope, []byte) error { h.add("handover"); return <-hung }
	cfg.OnRecord = func(r *statement.Record) error {
		h.add("%s", r.Kind)
		if r.Kind == "extension" {
			return <-hung
		}
		return nil
	}
	f := follow(t, cfg)
	t.Cleanup(func() { close(hung) }) // what still hangs ends before the follower is waited for
	c := s.accept(t)
	sum := sha256.Sum256([]byte("ciphertext"))
	hand := s.record(t, "handover", statement.Handover{Estate: s.Set.Charter.Estate, Credential: "research-openai", Version: 1, Custodian: "c1", SHA256: hex.EncodeToString(sum[:]), Created: s.Now}, s.Cora)
	one, two := s.revocation(t, 1, s.Ada), s.revocation(t, 2, s.Ada)
	var all Records
	all.Add(sha256.Sum256(one))
	s.beat.Records, s.beat.Sum = all.Len(), all.Sum()
	c.send(t, s.set(t), &Frame{Record: hand, Sealed: []byte("ciphertext")}, &Frame{Record: one}, s.heartbeat(t, nil))
	s.counted(t, f)
	if err := f.Offer(two, "gateway"); err != nil {
		t.Error(err)
	}
	await(t, "the handover", func() bool { return len(h.list()) == 4 })
	if n := f.Status().Taking; n != 1 { // whoever calls itself ready waits for this
		t.Errorf("%d records are said to be underway", n)
	}
	got := h.list()
	slices.Sort(got)
	if diff := cmp.Diff([]string{"handover", "revocation", "revocation", "set 1"}, got); diff != "" {
		t.Error(diff)
	}

	extension := s.record(t, "extension", statement.Extension{Estate: s.Set.Charter.Estate, Custodian: "c1", What: "witness", Until: s.Now.Add(time.Hour), Reason: "test", Created: s.Now}, s.Ada, s.Bea)
	ended := make(chan error)
	go func() { ended <- f.OfferAndWait(extension, "admin") }()
	hung <- nil // the handover is done; the extension comes after it
	failed := errors.New("no room in the ledger")
	hung <- failed
	if err := <-ended; !errors.Is(err, failed) {
		t.Errorf("who waits is told %v", err)
	}
	go func() { ended <- f.OfferAndWait(extension, "admin") }()
	hung <- nil
	if err := <-ended; err != nil {
		t.Errorf("the second time: %v", err)
	}
	if err := f.OfferAndWait(extension, "admin"); err != nil || f.Status().Records != 3 { // known
		t.Errorf("the third time: %v, %d records", err, f.Status().Records)
	}
}

// TestKeysThatAreOver: a workload key whose time is over leaves a follower once the authority does not publish it any more, and its own copy; it does not
// come back, and what is held has the authority's sum again.
func TestKeysThatAreOver(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(s.later.Load())) }
	cfg.Skew = 24 * time.Hour
	_, env, err := estate.NewKey(s.Set.Charter.Estate, "support-agent", s.Now, time.Hour, s.Ada)
	if err != nil {
		t.Fatal(err)
	}
	file, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	key, revoke := &Frame{Record: file}, &Frame{Record: s.revocation(t, 1, s.Ada)}
	var all, one Records
	one.Add(sha256.Sum256(revoke.Record))
	all.Add(sha256.Sum256(revoke.Record))
	all.Add(sha256.Sum256(key.Record))
	ctx, cancel := context.WithCancel(context.Background())
	f, err := Follow(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := s.accept(t)
	s.beat.Sum = all.Sum()
	c.send(t, s.set(t), key, revoke, s.heartbeat(t, nil))
	s.counted(t, f)

	// It is over, and still published: nothing changes.
	s.later.Store(int64(3 * time.Hour))
	c.send(t, s.heartbeat(t, nil))
	s.counted(t, f)
	if n := f.Status().Records; n != 2 {
		t.Errorf("%d records while it is published", n)
	}
	// The authority starts anew and leaves it out.
	close(c.lines)
	c = s.accept(t)
	s.beat.Sum = one.Sum()
	c.send(t, revoke, s.heartbeat(t, nil))
	s.counted(t, f)
	if err := f.Offer(file, "gateway"); err != nil || f.Status().Records != 1 {
		t.Errorf("brought back: %v, %d records", err, f.Status().Records)
	}
	close(c.lines)
	if c = s.accept(t); c.ask.Records != one.Sum() {
		t.Error("what is held has another sum than what is published")
	}
	cancel()
	f.Wait()
	path := filepath.Join(cfg.Dir, "records")
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, revoke.Encode()) {
		t.Errorf("the own copy has %s, %v", b, err)
	}

	// A copy from before is cleaned at the start.
	if err := os.WriteFile(path, append(key.Encode(), revoke.Encode()...), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	if f, err = Follow(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	cancel()
	f.Wait()
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, revoke.Encode()) || f.Status().Records != 1 {
		t.Errorf("the own copy has %s, %v; %d records", b, err, f.Status().Records)
	}
}
