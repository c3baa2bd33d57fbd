package estate

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/statement/standing"
	"github.com/reevehq/reeve/internal/workload"
)

// Seal signs a record: v is one of the record types of package statement, kind its name.
func Seal(kind string, v any, by ...*Signer) (*statement.Envelope, error) {
	payload, err := statement.Canonical(v)
	if err != nil {
		return nil, err
	}
	env := &statement.Envelope{PayloadType: statement.RecordType(kind), Payload: payload}
	return env, Countersign(env, by...)
}

// Countersign adds signatures to a record, in the order of their key ids. A key's earlier signature is replaced.
func Countersign(env *statement.Envelope, by ...*Signer) error {
	for _, s := range by {
		sig, err := s.Sign(&Message{PayloadType: env.PayloadType, Payload: env.Payload})
		if err != nil {
			return err
		}
		env.Signatures = slices.DeleteFunc(env.Signatures, func(old statement.Signature) bool { return old.KeyID == sig.KeyID })
		env.Signatures = append(env.Signatures, sig)
	}
	slices.SortFunc(env.Signatures, func(a, b statement.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
	return nil
}

// WriteRecord puts a record into the signed store under records/<kind>/<name>.json, replacing what was there.
func (d Dir) WriteRecord(name string, env *statement.Envelope) error {
	kind := Kind(env)
	if kind == "" || strings.ContainsAny(name, "/\\") || strings.HasPrefix(name, ".") {
		return fmt.Errorf("a record %q of type %q has no place in the store", name, env.PayloadType)
	}
	b, err := statement.Canonical(env)
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(d.Signed(), "records", kind, name+".json"), b, 0o644)
}

// Kind is the kind of record in an envelope, or empty.
func Kind(env *statement.Envelope) string {
	for _, kind := range []string{"workload-key", "revocation", "handover", "extension", "retirement", "recovery", "break-glass", "break-glass-review", "evidence"} {
		if env.PayloadType == statement.RecordType(kind) {
			return kind
		}
	}
	return ""
}

// ReadRecords reads the records of a kind from a store, by name. A file that is no record is an error that names it.
func ReadRecords(store statement.Store, kind string) (map[string]*statement.Envelope, error) {
	names, err := store.ReadDir("records/" + kind)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := map[string]*statement.Envelope{}
	for _, n := range names {
		name, ok := strings.CutSuffix(n, ".json")
		if !ok || strings.HasPrefix(n, ".") {
			continue
		}
		b, err := store.ReadFile("records/" + kind + "/" + n)
		if err != nil {
			return nil, err
		}
		if m[name], err = statement.ParseEnvelope(b); err != nil {
			return nil, fmt.Errorf("records/%s/%s: %w", kind, n, err)
		}
	}
	return m, nil
}

// NewKey makes a bearer key for a workload and its signed record. The key itself is in no record: it is shown once.
func NewKey(estate, workloadID string, from time.Time, life time.Duration, by *Signer, networks ...string) (secret.Value, *statement.Envelope, error) {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return secret.Value{}, nil, err
	}
	key := workload.Encode(random)
	from = from.UTC().Truncate(time.Second)
	env, err := Seal("workload-key", statement.WorkloadKey{
		Estate: estate, Workload: workloadID, Prefix: string(key[:11]), SHA256: hash(key), NotBefore: from, NotAfter: from.Add(life), Networks: networks,
	}, by)
	return secret.New(key), env, err
}

// KeyName is the name of a workload key's record in the store.
func KeyName(env *statement.Envelope) (string, error) {
	var k statement.WorkloadKey
	if err := json.Unmarshal(env.Payload, &k); err != nil || len(k.SHA256) < 16 {
		return "", fmt.Errorf("not a workload key record: %w", err)
	}
	return k.Workload + "-" + k.SHA256[:16], nil
}

// IssueKey makes a key for a workload, verifies its record against the set as a custodian would, and writes the record into
// the store.
func (d Dir) IssueKey(set *statement.Set, workloadID string, now time.Time, life time.Duration, by *Signer, networks ...string) (secret.Value, *statement.WorkloadKey, error) {
	key, env, err := NewKey(set.Charter.Estate, workloadID, now, life, by, networks...)
	if err != nil {
		return secret.Value{}, nil, err
	}
	k, err := d.writeKey(set, env, now)
	return key, k, err
}

func (d Dir) writeKey(set *statement.Set, env *statement.Envelope, now time.Time) (*statement.WorkloadKey, error) {
	k, err := set.OpenWorkloadKey(env, now)
	if err != nil {
		return nil, err
	}
	name, err := KeyName(env)
	if err != nil {
		return nil, err
	}
	return k, d.WriteRecord(name, env)
}

// RotateKey issues a new key for a workload and has every other good key of it end after the overlap, where it does not end before
// that anyway. It returns those that it cut short.
func (d Dir) RotateKey(set *statement.Set, workloadID string, now time.Time, life, overlap time.Duration, by *Signer, networks ...string) (secret.Value, *statement.WorkloadKey, []statement.WorkloadKey, error) {
	old, err := d.Keys(set, now)
	if err != nil {
		return secret.Value{}, nil, nil, err
	}
	key, k, err := d.IssueKey(set, workloadID, now, life, by, networks...)
	if err != nil {
		return secret.Value{}, nil, nil, err
	}
	var cut []statement.WorkloadKey
	end := now.UTC().Add(overlap).Truncate(time.Second)
	for _, o := range old {
		if o.Workload != workloadID || o.State != "valid" || !o.NotAfter.After(end) {
			continue
		}
		shorter := o.WorkloadKey
		shorter.NotAfter = end
		if from := now.UTC().Add(-time.Minute).Truncate(time.Second); from.After(shorter.NotBefore) {
			shorter.NotBefore = from // who signs held the role then, and need not have held it before
		}
		env, err := Seal("workload-key", shorter, by)
		if err == nil {
			_, err = d.writeKey(set, env, now)
		}
		if err != nil {
			return key, k, cut, fmt.Errorf("the new key is good; the old one %.16s could not be cut short: %w", o.SHA256, err)
		}
		cut = append(cut, shorter)
	}
	return key, k, cut, nil
}

// KeyState is a workload key's record and whether it is good.
type KeyState struct {
	statement.WorkloadKey
	State   string   `json:"state"`             // valid, not yet valid, expired, closed or refused
	Refused string   `json:"refused,omitempty"` // why the set in force does not take it
	Signers []string `json:"signers"`           // key ids
}

// Keys lists the workload keys in the store, by workload and then by time.
func (d Dir) Keys(set *statement.Set, now time.Time) ([]KeyState, error) {
	records, err := ReadRecords(d.Store(), "workload-key")
	if err != nil {
		return nil, err
	}
	closed, err := d.Closed(set, now)
	if err != nil {
		return nil, err
	}
	list := []KeyState{}
	for _, name := range slices.Sorted(maps.Keys(records)) {
		env := records[name]
		one := KeyState{State: "valid"}
		for _, a := range set.Charter.Approvals(env.PayloadType, env.Payload, env.Signatures) {
			one.Signers = append(one.Signers, a.KeyID)
		}
		k, err := set.OpenWorkloadKey(env, now)
		switch {
		case err != nil:
			one.State, one.Refused = "refused", err.Error()
			_ = json.Unmarshal(env.Payload, &one.WorkloadKey) // for the list only
		case now.Before(k.NotBefore):
			one.State, one.WorkloadKey = "not yet valid", *k
		case !now.Before(k.NotAfter):
			one.State, one.WorkloadKey = "expired", *k
		default:
			one.WorkloadKey = *k
		}
		if _, is := closed[statement.Target{Kind: "key", ID: one.SHA256}]; is {
			one.State = "closed"
		}
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(a, b KeyState) int {
		return strings.Compare(a.Workload+a.NotBefore.Format(time.RFC3339), b.Workload+b.NotBefore.Format(time.RFC3339))
	})
	return list, nil
}

// FindKey returns the hash of the one key that s tells of: the key itself, or the beginning of it or of its hash, 8 characters
// at least. It is what a revocation of a key names.
func (d Dir) FindKey(s string) (string, error) {
	records, err := ReadRecords(d.Store(), "workload-key")
	if err != nil {
		return "", err
	}
	whole := hash([]byte(s))
	found := map[string]bool{}
	for _, env := range records {
		var k statement.WorkloadKey
		if json.Unmarshal(env.Payload, &k) != nil || len(s) < 8 {
			continue
		}
		if k.SHA256 == whole || strings.HasPrefix(k.SHA256, s) || strings.HasPrefix(k.Prefix, s) {
			found[k.SHA256] = true
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d keys begin with that (8 characters at least): see reeve workload key list", len(found))
	}
	return slices.Collect(maps.Keys(found))[0], nil
}

// Closed is what the revocation records in the store close, each with the newest record that did. Records that the set does
// not take are passed over.
func (d Dir) Closed(set *statement.Set, now time.Time) (map[statement.Target]*statement.Revocation, error) {
	records, err := ReadRecords(d.Store(), "revocation")
	if err != nil {
		return nil, err
	}
	return standing.Closings(set, maps.Values(records), now), nil
}

// ClosedAt is Closed at a time that has passed: what was signed after it does not count.
func (d Dir) ClosedAt(set *statement.Set, at time.Time) (map[statement.Target]*statement.Revocation, error) {
	records, err := ReadRecords(d.Store(), "revocation")
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(records, func(_ string, env *statement.Envelope) bool {
		var made struct{ Time time.Time }
		return json.Unmarshal(env.Payload, &made) != nil || made.Time.After(at)
	})
	return standing.Closings(set, maps.Values(records), at), nil
}

// Revoke signs a revocation, of which target, reason, and open or end are given, with the next number of its first signer, verifies it as
// a custodian would, and writes it into the store. A record that needs another person's signature is put aside: the error is an *Awaiting.
func (d Dir) Revoke(set *statement.Set, r statement.Revocation, now time.Time, by ...*Signer) (*statement.Envelope, error) {
	records, err := ReadRecords(d.Drafts(), "revocation") // those that wait have their number too
	if err != nil {
		return nil, err
	}
	r.Estate, r.Signer, r.Number, r.Time = set.Charter.Estate, by[0].Person, 1, now.UTC().Truncate(time.Microsecond)
	for _, env := range records {
		var old statement.Revocation
		if err := json.Unmarshal(env.Payload, &old); err != nil {
			return nil, err
		}
		if old.Signer == r.Signer {
			r.Number = max(r.Number, old.Number+1)
		}
		if old.Target == r.Target && !r.Time.After(old.Time) { // this machine's clock is behind: what comes last must win
			r.Time = old.Time.Add(time.Microsecond)
		}
	}
	env, err := Seal("revocation", r, by...)
	if err != nil {
		return nil, err
	}
	return env, d.submit(set, fmt.Sprintf("%s-%d", r.Signer, r.Number), env, now)
}

// Awaiting says that a record waits for another signature.
type Awaiting struct {
	Name string // under which it waits: revocation/ada-3
	// Refusal is why it does not hold yet.
	Refusal *statement.Error
}

func (a *Awaiting) Error() string {
	return fmt.Sprintf("%s: nothing is changed until another owner signs the record too (reeve approve %s --as PERSON)", a.Refusal.What, a.Name)
}

func (a *Awaiting) Unwrap() error { return a.Refusal }

// submit writes a record into the store if the set takes it, and aside if a signature is missing.
func (d Dir) submit(set *statement.Set, name string, env *statement.Envelope, now time.Time) error {
	aside := filepath.Join(d.pending(), "records", Kind(env), name+".json")
	err := Take(set, env, now)
	if err == nil {
		if _, err := d.Store().ReadFile("records/" + Kind(env) + "/" + name + ".json"); err == nil {
			return fmt.Errorf("the store has another record %s already: remove %s and sign again", name, aside)
		}
		return errors.Join(d.WriteRecord(name, env), remove(aside))
	}
	var e *statement.Error
	if !errors.As(err, &e) || !Unsigned(err) || len(env.Signatures) > 1 {
		return err
	}
	b, bad := statement.Canonical(env)
	if bad != nil {
		return bad
	}
	if bad := durable.Replace(aside, b, 0o644); bad != nil {
		return bad
	}
	return &Awaiting{Name: Kind(env) + "/" + name, Refusal: e}
}

func remove(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Waits reports whether a record waits for a signature under that name, as in Awaiting.
func (d Dir) Waits(name string) bool {
	_, err := d.Drafting().ReadFile("records/" + name + ".json")
	return err == nil
}

// Cosign adds a signature to a record that lies elsewhere. lacks is nil when the set takes the record now, else says whose
// signature it still lacks. A record that no further signature would make good is refused.
func Cosign(set *statement.Set, env *statement.Envelope, by *Signer, now time.Time) (lacks, err error) {
	if err := Take(set, env, now); err != nil && !Unsigned(err) {
		return nil, err
	}
	if err := Countersign(env, by); err != nil {
		return nil, err
	}
	lacks = Take(set, env, now)
	if lacks != nil && !Unsigned(lacks) {
		return nil, lacks
	}
	return lacks, nil
}

// Unsigned reports whether a refusal of a record is for want of another signature.
func Unsigned(err error) bool {
	var e *statement.Error
	return errors.As(err, &e) && e.Rule == "right"
}

// Member is one member of a record, for people.
type Member struct{ Name, Value string }

// Members lists what a record says, by name.
func Members(payload []byte) ([]Member, error) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, err
	}
	var list []Member
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value, ok := m[name].(string)
		if !ok {
			b, err := statement.Canonical(m[name])
			if err != nil {
				return nil, err
			}
			value = string(b)
		}
		list = append(list, Member{name, value})
	}
	return list, nil
}

// RecordName is a name for a record in the store.
func RecordName(env *statement.Envelope) (string, error) {
	switch Kind(env) {
	case "workload-key":
		return KeyName(env)
	case "revocation":
		var r statement.Revocation
		err := json.Unmarshal(env.Payload, &r)
		return fmt.Sprintf("%s-%d", r.Signer, r.Number), err
	case "handover":
		return "", errors.New("a handover comes with its sealed secret: reeve credential put makes both")
	}
	return hash(env.Payload)[:16], nil
}

// ApproveRecord adds a signature to a record that waits, and submits it again. name is as in Awaiting.
func (d Dir) ApproveRecord(set *statement.Set, name string, by *Signer, now time.Time) (*statement.Envelope, error) {
	kind, file, _ := strings.Cut(name, "/")
	b, err := d.Drafting().ReadFile("records/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("no record waits as %s: %w", name, err)
	}
	env, err := statement.ParseEnvelope(b)
	if err != nil {
		return nil, err
	}
	if Kind(env) != kind {
		return nil, fmt.Errorf("%s holds a record of another kind", name)
	}
	if err := Countersign(env, by); err != nil {
		return nil, err
	}
	return env, d.submit(set, file, env, now)
}

// Take verifies a record of any kind against the set.
func Take(set *statement.Set, env *statement.Envelope, now time.Time) (err error) {
	switch Kind(env) {
	case "workload-key":
		_, err = set.OpenWorkloadKey(env, now)
	case "revocation":
		_, err = set.OpenRevocation(env, now)
	case "handover":
		var h statement.Handover
		if err = json.Unmarshal(env.Payload, &h); err == nil {
			_, err = set.OpenHandover(env, h.Custodian, now)
		}
	case "break-glass":
		_, _, err = set.OpenBreakGlass(env, now)
	case "break-glass-review":
		_, _, err = set.OpenReview(env, now)
	case "evidence":
		_, _, err = set.OpenEvidence(env, now)
	case "extension":
		var x statement.Extension
		if err = json.Unmarshal(env.Payload, &x); err == nil {
			_, err = set.OpenExtension(env, x.Custodian, now)
		}
	case "retirement":
		_, err = set.OpenRetirement(env, now)
	case "recovery":
		_, err = set.OpenAnnouncement(env, now)
	default:
		err = fmt.Errorf("there is no record of type %q", env.PayloadType)
	}
	return err
}
