// Package estatetest makes signed estates for tests: the shape of the demo, with keys that live in the test only.
package estatetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// Estate is a published estate: units research and support, each with a workload (<unit>-agent) and two credentials
// (<unit>-openai, <unit>-anthropic); people ada (policy), bea (operations) and cora (lifecycle); processes g1, c1, a1, w1.
type Estate struct {
	Dir   estate.Dir
	Pin   statement.Pin
	Set   *statement.Set
	Plan  *estate.Plan
	Now   time.Time    // when it was signed
	Lives estate.Lives // how long what is signed is valid: a day

	Ada, Bea, Cora *estate.Signer
	with           []*estate.Signer

	Keys       map[string]secret.Value // the bearer key of each workload, by workload id
	KeyRecords []*statement.WorkloadKey

	Identity *age.X25519Identity           // the custodian's
	Service  map[string]ed25519.PrivateKey // by use and process: "log c1", "feed a1", "witness w1"
}

// Option changes an estate before it is signed.
type Option func(*options)

type options struct {
	services [][2]string
	now      time.Time
	demo     estate.Demo
	with     []*estate.Signer
	edits    []func(*estate.Plan)
	log      map[string]string
	lives    estate.Lives
	people   map[string]*estate.Signer
}

// Upstream points every credential at an origin, such as that of an httptest TLS server, with its CA in PEM.
// 127.0.0.1/32 and ::1/128 are allowed.
func Upstream(origin, ca string) Option {
	return func(o *options) { o.demo.Origin, o.demo.CA = origin, ca }
}

// Gateway sets the public URL of g1.
func Gateway(url string) Option { return func(o *options) { o.demo.GatewayURL = url } }

// Edit changes the plan before it is signed: charter, policies, Cedar, custody or operations.
func Edit(f func(*estate.Plan)) Option {
	return func(o *options) { o.edits = append(o.edits, f) }
}

// With adds people to the charter, attested by bea, and has them sign like the others. An Edit gives them roles.
func With(people ...*estate.Signer) Option {
	return func(o *options) { o.with = append(o.with, people...) }
}

// Lives sets how long statements and lock are valid.
func Lives(l estate.Lives) Option { return func(o *options) { o.lives = l } }

// Person has ada, bea or cora sign with another key than a key file.
func Person(s *estate.Signer) Option { return func(o *options) { o.people[s.Person] = s } }

// At sets the time of signing.
func At(t time.Time) Option { return func(o *options) { o.now = t } }

// ServiceKey uses a note verifier key made elsewhere for a use and process, such as ("log", "c1").
func ServiceKey(use, process, vkey string) Option {
	return func(o *options) { o.log[use+" "+process] = vkey }
}

// Service adds a service key, such as ("token", "a1") or ("log", "a2").
func Service(use, process string) Option {
	return func(o *options) { o.services = append(o.services, [2]string{use, process}) }
}

// New makes, signs and publishes an estate in a temporary folder, and fails the test when it is refused.
func New(t testing.TB, opts ...Option) *Estate {
	t.Helper()
	e, err := Try(t, opts...)
	must(t, err)
	return e
}

// Try is New for estates that may be refused: the error is that of publishing.
func Try(t testing.TB, opts ...Option) (*Estate, error) {
	t.Helper()
	o := &options{now: time.Now().UTC().Truncate(time.Second), log: map[string]string{}, people: map[string]*estate.Signer{}, lives: estate.Lives{Statements: 24 * time.Hour, Lock: 24 * time.Hour}}
	o.demo = estate.Demo{GatewayURL: "http://127.0.0.1:7800", Origin: "https://127.0.0.1:7809", Networks: []string{"127.0.0.1/32", "::1/128"}}
	for _, f := range opts {
		f(o)
	}
	e := &Estate{Dir: estate.Dir(filepath.Join(t.TempDir(), "estate")), Now: o.now, Lives: o.lives, Keys: map[string]secret.Value{}, Service: map[string]ed25519.PrivateKey{}}
	var err error
	for person, to := range map[string]**estate.Signer{"ada": &e.Ada, "bea": &e.Bea, "cora": &e.Cora} {
		if *to = o.people[person]; *to == nil {
			*to, err = estate.NewSigner(person)
			must(t, err)
		}
	}
	e.Identity, err = age.GenerateX25519Identity()
	must(t, err)
	o.demo.Policy, o.demo.Operations, o.demo.Lifecycle = e.Ada, e.Bea, e.Cora
	o.demo.Recipient, o.demo.Until = e.Identity.Recipient().String(), o.now.Add(30*24*time.Hour)
	for _, k := range append([][2]string{{"log", "g1"}, {"log", "c1"}, {"log", "a1"}, {"feed", "a1"}, {"witness", "w1"}}, o.services...) {
		e.addService(t, o, k[0], k[1])
	}
	e.Plan, e.with = o.demo.Plan(), o.with
	for _, s := range o.with {
		e.Plan.Charter.People = append(e.Plan.Charter.People, statement.Person{ID: s.Person, Name: s.Person, AttestedUntil: o.demo.Until, AttestedBy: "bea", Keys: []statement.Key{s.Key()}})
	}
	for _, f := range o.edits {
		f(e.Plan)
	}
	if e.Pin, e.Set, err = e.Plan.Create(e.Dir, e.People(), o.now, o.lives); err != nil {
		return e, err
	}
	for _, w := range e.Plan.Charter.Workloads {
		if w.VouchedBy(statement.IssuerReeve) {
			e.NewKey(t, w.ID)
		}
	}
	return e, nil
}

// People are ada, bea and cora, and those added by With.
func (e *Estate) People() []*estate.Signer {
	return append([]*estate.Signer{e.Ada, e.Bea, e.Cora}, e.with...)
}

// NewKey issues another key for the workload, signed by a policy owner of its unit, valid from a minute before Now for a day.
func (e *Estate) NewKey(t testing.TB, workloadID string) secret.Value {
	t.Helper()
	by := e.Ada
	for _, s := range e.People() {
		if _, u, ok := e.Set.Workload(workloadID); ok && e.Set.Charter.MayApprove(s.Person, "policy-"+u.ID) {
			by = s
			break
		}
	}
	key, env, err := estate.NewKey(e.Set.Charter.Estate, workloadID, e.Now.Add(-time.Minute), 24*time.Hour, by)
	must(t, err)
	record, err := e.Set.OpenWorkloadKey(env, e.Now)
	must(t, err)
	name, err := estate.KeyName(env)
	must(t, err, func() error { return e.Dir.WriteRecord(name, env) })
	e.Keys[workloadID], e.KeyRecords = key, append(e.KeyRecords, record)
	return key
}

// Workloads is the snapshot of all keys that were issued.
func (e *Estate) Workloads() *workload.Keys { return workload.NewKeys(e.Set, e.KeyRecords) }

// Proof is the bearer proof of a workload.
func (e *Estate) Proof(workloadID string) workload.Proof {
	return workload.Proof{Kind: "bearer", Value: append([]byte(nil), e.Keys[workloadID].Reveal()...)}
}

// Signer is the note signer key of a service, such as ("log", "c1").
func (e *Estate) Signer(use, process string) string {
	alg := byte(1)
	if use == "witness" {
		alg = 4
	}
	return estate.NoteSigner(e.name(use, process), alg, e.Service[use+" "+process])
}

// Sign is a service's plain Ed25519 signature over a DSSE payload.
func (e *Estate) Sign(use, process, payloadType string, payload []byte) []byte {
	return ed25519.Sign(e.Service[use+" "+process], statement.PAE(payloadType, payload))
}

// Endorse signs as a process does with its log key: what feed.Config wants.
func (e *Estate) Endorse(process string) func(payloadType string, payload []byte) ([]statement.Signature, error) {
	return func(payloadType string, payload []byte) ([]statement.Signature, error) {
		public := e.Service["log "+process].Public().(ed25519.PublicKey)
		id := estate.NoteKey(e.name("log", process), 1, public)
		return []statement.Signature{{KeyID: id[:len(e.name("log", process))+9], Sig: e.Sign("log", process, payloadType, payload)}}, nil
	}
}

// Signature is a person's signature over a DSSE payload.
func Signature(t testing.TB, by *estate.Signer, payloadType string, payload []byte) statement.Signature {
	t.Helper()
	sig, err := by.Sign(&estate.Message{PayloadType: payloadType, Payload: payload})
	must(t, err)
	return sig
}

// Republish writes the plan again after edit, has the named statements and a new lock signed by all, and publishes.
func (e *Estate) Republish(t testing.TB, edit func(*estate.Plan), names ...string) {
	t.Helper()
	if edit != nil {
		edit(e.Plan)
	}
	must(t, e.Plan.Write(e.Dir))
	must(t, e.Dir.SignAll(&e.Plan.Charter, append(names, "lock"), e.People(), e.Now, e.Lives))
	set, err := e.Dir.Publish(e.Pin, e.Now)
	must(t, err)
	e.Set = set
}

func (e *Estate) name(use, process string) string {
	id := "demo"
	if e.Plan != nil {
		id = e.Plan.Charter.Estate
	}
	if use == "log" {
		return "reeve/" + id + "/" + process
	}
	return "reeve/" + id + "/" + use + "/" + process
}

func (e *Estate) addService(t testing.TB, o *options, use, process string) {
	t.Helper()
	key := o.log[use+" "+process]
	if key == "" {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		must(t, err)
		e.Service[use+" "+process] = private
		alg := byte(1)
		if use == "witness" {
			alg = 4
		}
		key = estate.NoteKey(e.name(use, process), alg, public)
	}
	o.demo.ServiceKeys = append(o.demo.ServiceKeys, statement.ServiceKey{Use: use, Process: process, Key: key, NotBefore: o.now.Add(-time.Hour), NotAfter: o.now.Add(365 * 24 * time.Hour)})
}

// must fails the test on err, else runs the steps until one fails.
func must(t testing.TB, err error, steps ...func() error) {
	t.Helper()
	for _, f := range steps {
		if err == nil {
			err = f()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
