package authority

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/ledger"
)

// signs is a witness that cosigns whatever it is shown.
type signs struct{ note.Signer }

func (w signs) Cosign(_ context.Context, _ int64, checkpoint []byte, _ []tlog.Hash) ([]note.Signature, error) {
	n, err := note.Open(checkpoint, note.VerifierList())
	if unverified, ok := err.(*note.UnverifiedNoteError); ok {
		n = unverified.Note
	}
	signed, err := note.Sign(&note.Note{Text: n.Text}, w)
	if err != nil {
		return nil, err
	}
	if _, err = note.Open(signed, note.VerifierList()); err == nil {
		return nil, fmt.Errorf("a note that nobody knows was opened")
	}
	return err.(*note.UnverifiedNoteError).Note.UnverifiedSigs, nil
}

// hide takes back what the rig showed.
func (r *rig) hide() {
	r.mu.Lock()
	defer r.mu.Unlock()
	hidden := *r.set
	hidden.frame.Published = nil
	hidden.line = hidden.frame.Encode()
	r.set = &hidden
}

func (r *rig) shows() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.frame.Published != nil
}

// Whoever asks an authority that is just starting waits for it: for its first publishing, and for the lock's place in a cosigned log when it
// holds none.
func TestStreamWaitsForTheStart(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	wait := func(bare bool, there func() bool) <-chan bool {
		was := make(chan bool)
		go func() {
			r.soon(t.Context(), bare)
			was <- there()
		}()
		return was
	}
	leads := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.leading
	}
	r.mu.Lock()
	r.leading = false
	r.mu.Unlock()
	was := wait(false, leads)
	if err := r.begin(); err != nil {
		t.Fatal(err)
	}
	if !<-was {
		t.Error("a stream was answered before the authority published")
	}
	r.hide()
	<-wait(false, r.shows) // who holds a set does not wait
	was = wait(true, r.shows)
	r.prove(t)
	if !<-was {
		t.Error("a process without a set was answered before the lock was shown")
	}
	r.hide()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	r.soon(over, true)
	r.lose(errors.New("taken"))
	r.standBy(fmt.Errorf("held: a2/x"))
	r.soon(t.Context(), true) // the other one publishes
}

// Whoever starts from his pin alone is shown the lock in the authority's own log as soon as it is cosigned; the next run has that from the
// journal, and a run that finds none enters the lock again.
func TestLockIsShown(t *testing.T) {
	e, state := estatetest.New(t), t.TempDir()
	r := newRig(t, e, state)
	r.hide()
	f, heard := r.follow(t, "c1")
	key := filepath.Join(t.TempDir(), "log.key")
	if err := os.WriteFile(key, []byte(e.Signer("log", "a1")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	logKey, err := ledger.LoadKey(key)
	if err != nil {
		t.Fatal(err)
	}
	r.tiles = t.TempDir()
	log, err := ledger.Open(t.Context(), ledger.Config{Key: logKey, Dir: filepath.Join(state, "ledger"), Tiles: r.tiles, Need: 1, Interval: time.Hour,
		Witnesses: []ledger.Witness{signs{e.Cosigner(t, "w1")}}})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r.ledger = log // the lock is not in this one: as if the entry had been another authority's
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.proving(ctx, log.Publish) }()
	defer func() { cancel(); <-ended }()
	heard.want(t, "set 1", "workload-key", "workload-key")
	if f.Set() == nil {
		t.Error("the follower has no set")
	}

	again := newRig(t, e, state)
	again.hide()
	again.ledger = nil // it would have to enter
	if done, err := again.Authority.prove(); !done || err != nil || !again.shows() {
		t.Errorf("the next run does not show it: %v", err)
	}
}
