package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
)

// by is an intent with actors.
func by(actors ...string) *entry.Entry {
	e := intent()
	for _, a := range actors {
		e.Actor = append(e.Actor, "act:"+a)
	}
	return e
}

// slots reads which keys a disk has.
func slots(t testing.TB, d *faultDisk) map[keyName]string {
	t.Helper()
	found := map[keyName]string{}
	f, err := d.open(keysFile)
	if err != nil {
		return found
	}
	if _, err := eachSlot(f, func(at int64, slot []byte) error {
		name, key, ok := parseSlot(slot)
		if !ok && !allZero(slot) {
			t.Errorf("slot %d is neither a key nor free", at/slotLen)
		}
		if _, twice := found[name]; ok && twice {
			t.Errorf("a name has two keys")
		}
		if ok {
			found[name] = string(key)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestNoEntryNamesAKeyThatACrashTook cuts the power at each step of appends with ever new actors: whatever entry is in the log afterwards, the keys of its payload are
// on disk, and open it.
func TestNoEntryNamesAKeyThatACrashTook(t *testing.T) {
	entries := 0
	for step := 1; step <= 90; step++ {
		c := newCrasher(t, int64(step))
		for round := range 2 {
			c.actors = func(caller, i int) []string { return []string{fmt.Sprint("a", round, caller, i), fmt.Sprint("b", i%3)} }
			if err := c.run(1+round*5, step+round*20); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
		}
		c.disk.crashAt = 0
		n, err := c.openPayloads(t)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		entries += n
		if err := c.check(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	if t.Logf("%d payloads opened", entries); entries < 100 {
		t.Error("too few to say anything")
	}
}

// openPayloads opens the payload of every entry in the write-ahead log with the keys that the disk has.
func (c *crasher) openPayloads(t *testing.T) (n int, err error) {
	keys := slots(t, c.disk)
	v, err := newVolume(&c.cfg, 0)
	if err != nil {
		return 0, err
	}
	s, err := c.scan(nil)
	if err != nil || s.off == 0 {
		return 0, err
	}
	at := cursor{disk: c.disk, state: firstState(v.origin)}
	if ok, err := at.enter(1, true); !ok || err != nil {
		return 0, err
	}
	for at.Tree.Size < s.Tree.Size {
		r, leaf, ok, err := at.next()
		if err != nil || !ok {
			return n, fmt.Errorf("reading entry %d: %w", at.Tree.Size, err)
		}
		at.Tree.add(leaf, nil)
		e, err := entry.Parse(r.body)
		if err != nil || len(r.payload) == 0 {
			return n, fmt.Errorf("entry %d has no payload: %w", r.seq, err)
		}
		end := 1 + nameLen*int(r.payload[0])
		var parts [][]byte
		for name := range slices.Chunk(r.payload[1:end], nameLen) {
			parts = append(parts, []byte(keys[keyName(name)]))
		}
		key, err := OpenKey(parts)
		if err != nil {
			return n, err
		}
		plain, err := key.Open(nil, nil, r.payload[end:], commitment(t, e))
		if err != nil || string(plain[saltLen:]) != "the input" {
			return n, fmt.Errorf("the payload of entry %d cannot be opened with the keys that are there: %w", r.seq, err)
		}
		n++
	}
	return n, nil
}

func commitment(t testing.TB, e *entry.Entry) (b []byte) {
	t.Helper()
	if _, err := fmt.Sscanf(e.Commit, "%x", &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// gated is a disk whose file of keys syncs when it is told to.
type gated struct {
	disk
	began chan struct{} // a sync has begun
	pass  chan struct{} // closed or sent to: it may end
	syncs atomic.Int64
}

func (g *gated) open(name string) (file, error) {
	f, err := g.disk.open(name)
	return g.gate(name, f), err
}

func (g *gated) create(name string) (file, error) {
	f, err := g.disk.create(name)
	return g.gate(name, f), err
}

func (g *gated) gate(name string, f file) file {
	if f == nil || !strings.HasSuffix(name, keysFile) {
		return f
	}
	return gatedFile{f, g}
}

type gatedFile struct {
	file
	g *gated
}

func (f gatedFile) Sync() error {
	f.g.syncs.Add(1)
	select {
	case f.g.began <- struct{}{}:
		<-f.g.pass
	default:
	}
	return f.file.Sync()
}

// TestNewActorsHoldUpNobody: while the disk writes keys of new actors, whom the ledger knows goes on; all who wait meanwhile share the next sync.
func TestNewActorsHoldUpNobody(t *testing.T) {
	cfg := testConfig(t)
	g := &gated{disk: newFaultDisk(), pass: make(chan struct{})}
	cfg.disks = func(string) disk { return g }
	l := open(t, cfg)
	if _, err := l.Append(by("paula"), []byte("the input")); err != nil {
		t.Fatal(err)
	}
	g.began = make(chan struct{})
	var all sync.WaitGroup
	wait := func(actor string) {
		all.Go(func() {
			if _, err := l.Append(by(actor), []byte("the input")); err != nil {
				t.Error(err)
			}
		})
	}
	wait("first")
	<-g.began // its key is being written
	before := g.syncs.Load()
	const many = 200
	for i := range many {
		wait(fmt.Sprint("actor-", i))
	}
	until(t, func() bool {
		l.keys.mu.Lock()
		defer l.keys.mu.Unlock()
		return l.keys.next != nil && len(l.keys.next.names) == many
	})
	wait("first") // joins what is under way
	for range 100 {
		if _, err := l.Append(by("paula"), []byte("the input")); err != nil {
			t.Fatal(err)
		}
	}
	g.began = nil
	close(g.pass)
	all.Wait()
	if n := g.syncs.Load() - before; n != 1 {
		t.Errorf("%d keys took %d syncs", many, n)
	}
	if got, want := len(slots(t, g.disk.(*faultDisk))), 2+2+many; got != want {
		t.Errorf("%d keys, want %d", got, want)
	}
}

// TestNewActorsAreBounded: of one tenant so many new actors come in a minute; who is known, other tenants, and workloads go on.
func TestNewActorsAreBounded(t *testing.T) {
	cfg := testConfig(t)
	d := newFaultDisk()
	cfg.disks = func(string) disk { return d }
	var now atomic.Int64
	now.Store(time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC).Unix())
	cfg.Clock = func() time.Time { return time.Unix(now.Load(), 0) }
	l := open(t, cfg)
	for i := 0; i < maxActors; i += 4 {
		if _, err := l.Append(by(fmt.Sprint(i), fmt.Sprint(i+1), fmt.Sprint(i+2), fmt.Sprint(i+3)), []byte("the input")); err != nil {
			t.Fatal(i, err)
		}
	}
	size := l.Status().Size
	if _, err := l.Append(by("7", "one more"), []byte("the input")); !errors.Is(err, ErrActors) || l.Status().Size != size {
		t.Errorf("one more: %v, %d entries", err, l.Status().Size-size)
	}
	other, workload := by("one more"), by("7")
	other.Tenant, workload.Workload = "other", "another-agent"
	for name, e := range map[string]*entry.Entry{"known": by("7", "999"), "another tenant": other, "another workload": workload} {
		if _, err := l.Append(e, []byte("the input")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	now.Add(60)
	if _, err := l.Append(by("one more"), []byte("the input")); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// TestNewActorsOnAFullDisk: where there is no room for keys, those that are there go on, and all do once there is room.
func TestNewActorsOnAFullDisk(t *testing.T) {
	c := newCrasher(t, 1)
	l := open(t, c.cfg)
	full := func(is bool) {
		c.disk.mu.Lock()
		defer c.disk.mu.Unlock()
		c.disk.full = is
	}
	if _, err := l.Append(by("paula"), []byte("the input")); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { c.disk.mu.Lock(); defer c.disk.mu.Unlock(); return c.disk.names[segmentName(2)] != nil })
	full(true)
	var err error
	n := 0
	for ; err == nil; n += 7 {
		e := by()
		e.Tenant = fmt.Sprint("tenant-", n)
		e.Reason = ""
		for i := range 7 {
			e.Actor = append(e.Actor, fmt.Sprint("act:", i))
		}
		_, err = l.Append(e, []byte("the input"))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d actors: %v", n, err)
	}
	if _, err := l.Append(by("paula"), []byte("the input")); err != nil {
		t.Errorf("known: %v", err)
	}
	full(false)
	if _, err := l.Append(by("another"), []byte("the input")); err != nil {
		t.Errorf("when there is room: %v", err)
	}
}

func TestFailedSyncOfKeysIsFatal(t *testing.T) {
	c := newCrasher(t, 1)
	l := open(t, c.cfg)
	c.disk.mu.Lock()
	c.disk.syncErr = errors.New("input/output error")
	c.disk.mu.Unlock()
	if _, err := l.Append(by("paula"), []byte("the input")); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "input/output error") {
		t.Fatal(err)
	}
	<-l.Done()
}

// TestKeyringAgainstModel makes and destroys keys, and cuts the power, in random order: a key that was made is the same until it is destroyed, and one that was
// destroyed is in no byte of the disk.
func TestKeyringAgainstModel(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	for range 30 {
		d := newFaultDisk()
		made, gone := map[string]string{}, []string(nil)
		var k *keyring
		start := func() {
			var lost int
			var err error
			if k, lost, err = openKeyring(d, time.Now, func(error) {}); err != nil || lost != 0 {
				t.Fatal(lost, err)
			}
		}
		start()
		for range 60 {
			who := fmt.Sprint("subject-", r.Intn(20))
			name := KeyName("acme", who)
			switch op := r.Intn(10); {
			case op < 6:
				if _, err := k.of(slices.Clone(name[:])); err != nil && !errors.Is(err, errCrashed) {
					t.Fatal(err)
				} else if err != nil {
					break
				}
				key := slots(t, d)[name]
				if before := made[who]; before != "" && before != key || key == "" {
					t.Fatalf("%s has another key than before, or none", who)
				}
				made[who] = key
			case op < 8:
				if err := k.destroy("acme", who); err == nil && made[who] != "" {
					gone = append(gone, made[who])
					delete(made, who)
				}
			default:
				d.crashAt = d.steps + 1 + r.Intn(4)
				for i := range 3 { // whoever runs into the end
					name := KeyName("acme", fmt.Sprint("cut-", r.Int(), i))
					k.of(name[:])
				}
				d = d.crash(r)
				start()
			}
		}
		have := slots(t, d)
		for who, key := range made {
			if have[KeyName("acme", who)] != key {
				t.Errorf("the key of %s is gone", who)
			}
		}
		f := d.names[keysFile]
		for _, key := range gone {
			if f != nil && (bytes.Contains(f.data, []byte(key)) || bytes.Contains(f.synced, []byte(key))) {
				t.Error("a key that was destroyed is on the disk")
			}
		}
	}
}

// TestErasureIsCutOff cuts the power at each step of an erasure: either it was not said to be done, or its key is gone for good.
func TestErasureIsCutOff(t *testing.T) {
	for step := 1; step <= 6; step++ {
		d := newFaultDisk()
		k, _, err := openKeyring(d, time.Now, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		name, other := KeyName("acme", "paula"), KeyName("acme", "quinn")
		for _, n := range []keyName{name, other} {
			if _, err := k.of(n[:]); err != nil {
				t.Fatal(err)
			}
		}
		before := maps.Clone(slots(t, d))
		d.crashAt = d.steps + step
		done := k.destroy("acme", "paula")
		d = d.crash(rand.New(rand.NewSource(int64(step))))
		after := slots(t, d)
		if _, there := after[name]; done == nil && there {
			t.Errorf("step %d: destroyed, and there after a crash", step)
		}
		if after[other] != before[other] {
			t.Errorf("step %d: another subject's key is another one", step)
		}
		if k, _, err = openKeyring(d, time.Now, func(error) {}); err != nil {
			t.Fatal(err)
		}
		if err := k.destroy("acme", "paula"); err != nil { // asked again, as the request that lies there does
			t.Fatal(err)
		}
		if bytes.Contains(d.names[keysFile].synced, []byte(before[name])) {
			t.Errorf("step %d: not gone after it was asked again", step)
		}
	}
}

// A slot that nothing wrote like that is passed over, never used, and counted.
func TestDamagedSlot(t *testing.T) {
	d := newFaultDisk()
	k, _, err := openKeyring(d, time.Now, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	name := KeyName("acme", "paula")
	if _, err := k.of(name[:]); err != nil {
		t.Fatal(err)
	}
	d.names[keysFile].data[nameLen] ^= 1
	clear(k.whole)
	if _, err := k.of(name[:]); err == nil {
		t.Error("a key that was altered on disk was taken")
	}
	k, lost, err := openKeyring(d, time.Now, func(error) {})
	if err != nil || lost != 1 {
		t.Fatal(lost, err)
	}
	if _, err := k.of(name[:]); err != nil {
		t.Error(err)
	}
}
