package feed

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// Who starts from his pin alone takes no lock that was not published: owners who sign one for him alone, and an authority that shows it to
// nobody else, leave it in a cosigned log or are not believed.
func TestCosignedLock(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	other := estatetest.New(t) // the same names, other keys
	lock := s.Set.LockHash
	good := s.publication(t, lock)
	publication := func(e *estatetest.Estate, process string, witnesses ...string) *Publication {
		p := new(Publication)
		p.Entry, p.Checkpoint = e.Published(t, process, lock, witnesses...)
		return p
	}
	changed := func(change func(p *Publication)) *Publication {
		p := *good
		p.Entry, p.Checkpoint = slices.Clone(p.Entry), slices.Clone(p.Checkpoint)
		change(&p)
		return &p
	}
	f := follow(t, cfg)
	c := s.accept(t)
	frame := s.set(t)
	frame.Published = nil
	c.send(t, frame, s.heartbeat(t, nil))
	await(t, "no publication", func() bool { return strings.Contains(f.Status().Err, "no set yet") })
	if n := f.Status().Refused; n != 0 || f.Set() != nil || f.Age() != Unknown {
		t.Fatalf("a set that is not published yet: %d refused, set %v, age %s", n, f.Set(), f.Age())
	}
	refused := int64(0)
	for name, p := range map[string]*Publication{
		"empty":                 {},
		"not cosigned":          publication(s.Estate, "a1"),
		"a log of no authority": publication(s.Estate, "c1", "w1"),
		"another log":           publication(other, "a1", "w1"),
		"another lock":          s.publication(t, other.Set.LockHash),
		"another entry":         changed(func(p *Publication) { p.Entry[len(p.Entry)-3] ^= 1 }),
		"another tree":          changed(func(p *Publication) { p.Proof = []tlog.Hash{{1}} }),
		"another root":          changed(func(p *Publication) { p.Checkpoint[len("reeve/demo/a1\n1\n")+3] ^= 1 }),
	} {
		if err := p.Check(s.Set, time.Now()); !errors.Is(err, ErrUnpublished) {
			t.Errorf("%s: %v", name, err)
		}
		frame.Published = p
		c.send(t, frame, s.heartbeat(t, nil))
		refused++ // the heartbeat only came too early
		await(t, name, func() bool { return f.Status().Refused >= refused })
		if f.Set() != nil || f.Age() != Unknown {
			t.Fatalf("%s: set %v, age %s", name, f.Set(), f.Age())
		}
	}
	frame.Published = good
	c.send(t, frame, s.heartbeat(t, nil))
	s.counted(t, f)

	// Then it descends from what is held, and needs no witness.
	s.Republish(t, nil, "operations")
	next := s.set(t)
	next.Published = nil
	c.send(t, next, s.heartbeat(t, nil))
	s.counted(t, f)
	if v := f.Set().Lock.Version; v != 2 {
		t.Errorf("lock version %d", v)
	}
}

// Several witnesses are asked for by the charter, and two keys of one are one.
func TestCosignedByEnough(t *testing.T) {
	e := estatetest.New(t, estatetest.Service("witness", "w2"))
	for need, want := range map[int]bool{0: true, 1: true, 2: false} {
		set := *e.Set
		set.Charter.Witnesses = statement.WitnessRule{Need: need}
		p := new(Publication)
		p.Entry, p.Checkpoint = e.Published(t, "a1", set.LockHash, "w1")
		if err := p.Check(&set, time.Now()); (err == nil) != want {
			t.Errorf("%d needed, one has cosigned: %v", need, err)
		}
		p.Entry, p.Checkpoint = e.Published(t, "a1", set.LockHash, "w1", "w2")
		if err := p.Check(&set, time.Now()); err != nil {
			t.Errorf("%d needed, two have cosigned: %v", need, err)
		}
		if err := p.Check(&set, time.Now().Add(2*365*24*time.Hour)); err == nil {
			t.Error("taken by keys that are over")
		}
		for i := range set.Charter.ServiceKeys {
			if set.Charter.ServiceKeys[i].Use == "witness" {
				set.Charter.ServiceKeys = slices.Clone(set.Charter.ServiceKeys)
				set.Charter.ServiceKeys[i].Process = "w1"
			}
		}
		if err := p.Check(&set, time.Now()); (err == nil) != want {
			t.Errorf("%d needed, one has cosigned with two keys: %v", need, err)
		}
	}
}

// A folder shows no log: whoever starts from one is told.
func TestFolderNeedsNoCosignedLock(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	dir := cfg.Dir
	cfg.URLs, cfg.Folder = nil, string(s.Dir.Signed())
	first := follow(t, cfg)
	await(t, "the set", func() bool { return first.Set() != nil })

	// What was started so goes on with an authority whose log nobody has cosigned.
	cfg = s.config(t, h)
	cfg.Dir = dir
	await(t, "the lock on disk", func() bool { last, err := readLast(dir); return err == nil && last.Version == 1 })
	f := follow(t, cfg)
	frame := s.set(t)
	frame.Published = nil
	s.accept(t).send(t, frame, s.heartbeat(t, nil))
	s.counted(t, f)
}
