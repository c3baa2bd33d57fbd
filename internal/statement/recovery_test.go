package statement_test

import (
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// The root quorum is lost: recovery keys sign the next charter, which takes effect when its notice has run, and not by one key,
// not unannounced, not as another charter, and not because its signers date the announcement back.
func TestRecovery(t *testing.T) {
	var safe [3]*estate.Signer
	for i, id := range []string{"safe-1", "safe-2", "safe-3"} {
		s, err := estate.NewKeyFile("recovery", id)
		if err != nil {
			t.Fatal(err)
		}
		safe[i] = s
	}
	l := newLarge(t, func(p *estate.Plan) {
		for _, k := range safe {
			p.Charter.Recovery.Keys = append(p.Charter.Recovery.Keys, k.Key())
		}
		p.Charter.Recovery.Notice = statement.Duration(48 * time.Hour)
	})
	for _, k := range safe {
		l.by[k.Key().ID] = k
	}
	// Of the root quorum bea, ben and cora, two are gone with their keys. The new one is cora and abe.
	next := func(p *estate.Plan) { p.Charter.Roles.Root = []string{"cora", "abe"} }
	notice := 48 * time.Hour
	charter := func(charterBy string, keys ...*estate.Signer) mem {
		m := copyStore(t, l.Estate)
		for _, k := range keys {
			charterBy += " " + k.Key().ID
		}
		l.sign(t, m, 2, "charter", next, charterBy)
		m.Lock(t, 2, nil, l.Ada, l.Cora)
		return m
	}
	announce := func(m mem, edit func(*statement.Announcement), keys ...*estate.Signer) mem {
		a := statement.Announcement{Estate: "demo", Version: 2, SHA256: hash(m["charter/2/manifest.json"]), Reason: "keys burnt", Created: l.Now}
		if edit != nil {
			edit(&a)
		}
		env, err := estate.Seal("recovery", a, keys...)
		if err != nil {
			t.Fatal(err)
		}
		m["records/recovery/2.json"] = canonical(t, env)
		return m
	}
	pin := l.Pin
	heard := l.Now.Add(time.Hour)
	pin.Heard = func(sha string) time.Time { return heard }
	load := func(m mem, at time.Time) (*statement.Set, error) {
		set, err := statement.Load(m, pin, l.Set, at)
		return set, err
	}
	two := func() mem { return announce(charter("cora abe", safe[0], safe[1]), nil, safe[0], safe[1]) }

	_, err := load(charter("cora abe"), heard.Add(notice))
	refused(t, err, "approvers", "charter/2")
	_, err = load(announce(charter("cora abe", safe[0]), nil, safe[0], safe[1]), heard.Add(notice))
	refused(t, err, "approvers", "charter/2")
	_, err = load(charter("cora abe", safe[0], safe[1]), heard.Add(notice))
	refused(t, err, "notice", "records/recovery/2.json")
	_, err = load(announce(charter("cora abe", safe[0], safe[1]), nil, safe[0]), heard.Add(notice))
	refused(t, err, "right", "records/recovery/2.json")
	_, err = load(announce(charter("cora abe", safe[0], safe[1]), func(a *statement.Announcement) { a.SHA256 = hash(nil) }, safe[0], safe[1]), heard.Add(notice))
	refused(t, err, "notice", "records/recovery/2.json")
	_, err = load(announce(charter("cora", safe[0], safe[1]), nil, safe[0], safe[1]), heard.Add(notice))
	refused(t, err, "approvers", "charter/2") // the new quorum signs its own charter
	_, err = load(two(), heard.Add(notice-time.Second))
	refused(t, err, "notice", "records/recovery/2.json")
	back := announce(charter("cora abe", safe[0], safe[1]), func(a *statement.Announcement) { a.Created = l.Now.Add(-1000 * time.Hour) }, safe[0], safe[1])
	_, err = load(back, heard.Add(notice-time.Second))
	refused(t, err, "notice", "records/recovery/2.json")

	set, err := load(two(), heard.Add(notice))
	if err != nil || set.Charter.Roles.Root[0] != "cora" {
		t.Fatalf("after its notice: %v", err)
	}
	// What was in force is not asked for its notice again.
	pin.Heard = func(string) time.Time { return heard.Add(notice) }
	m := two()
	pin.LastLock = statement.Locked{Version: 2, SHA256: hash(m["lock/2/manifest.json"])}
	if _, err := statement.Load(m, pin, nil, heard.Add(notice)); err != nil {
		t.Errorf("what was in force before: %v", err)
	}
	// Recovery keys sign nothing else.
	m = copyStore(t, l.Estate)
	l.sign(t, m, 2, "operations", func(*estate.Plan) {}, "ada safe-1 safe-2")
	m.Lock(t, 2, nil, l.Bea, l.Ada)
	_, err = statement.Load(m, l.Pin, l.Set, l.Now)
	refused(t, err, "approvers", "operations/2")
	m = copyStore(t, l.Estate)
	m.Lock(t, 2, nil, l.Ada, safe[0], safe[1])
	_, err = statement.Load(m, l.Pin, l.Set, l.Now)
	refused(t, err, "approvers", "lock/2")
}
