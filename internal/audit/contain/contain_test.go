package contain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/keyring"
	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/verify"
)

const log = "00000000000000c1"

// bench is a signed estate, and an index of what c1 did.
type bench struct {
	*estatetest.Estate
	index *index.Memory
	seq   int64
}

func newBench(t *testing.T, edits ...func(*estate.Plan)) *bench {
	t.Helper()
	var o []estatetest.Option
	for _, e := range edits {
		o = append(o, estatetest.Edit(e))
	}
	b := &bench{Estate: estatetest.New(t, o...), index: index.NewMemory(index.Log{ID: log, Process: "c1", Origin: "reeve/demo/c1"})}
	for unit, provider := range map[string]string{"research": "openai", "support": "anthropic"} {
		b.add(t, entry.Entry{Type: entry.Intent, Tenant: "acme", Unit: unit, Workload: unit + "-agent", Credential: unit + "-" + provider, Gateway: "g1", Decision: "allow", Level: "W0", Proof: "bearer"})
	}
	b.add(t, entry.Entry{Type: entry.Version, Credential: "research-openai", Lease: "v1", State: "active", CredFP: "f1"})
	return b
}

func (b *bench) add(t *testing.T, e entry.Entry) {
	t.Helper()
	b.addAt(t, time.Duration(b.seq)*time.Millisecond, e)
}

// addAt adds an entry so long after the estate was signed.
func (b *bench) addAt(t *testing.T, at time.Duration, e entry.Entry) {
	t.Helper()
	e.V, e.Log, e.Seq, e.TimeNS = 1, log, b.seq, b.Now.Add(at).UnixNano()
	if err := b.index.Add(&e); err != nil {
		t.Fatal(err)
	}
	b.seq++
}

func (b *bench) plan(t *testing.T, scope string, end *bool) *Plan {
	t.Helper()
	return b.planAt(t, scope, end, b.Now.Add(time.Minute))
}

func (b *bench) planAt(t *testing.T, scope string, end *bool, now time.Time) *Plan {
	t.Helper()
	s, err := ParseScope(strings.Fields(scope)...)
	if err != nil {
		t.Fatal(err)
	}
	basis := &Basis{Set: b.Set, Index: b.index, Now: now}
	if basis.Records, err = estate.ReadRecords(b.Dir.Store(), "revocation"); err != nil {
		t.Fatal(err)
	}
	if basis.Keys, err = b.Dir.Keys(b.Set, basis.Now); err != nil {
		t.Fatal(err)
	}
	p, err := New(t.Context(), basis, s, end, "test")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// act carries a plan out with nobody to send to: what is signed and what waits shows.
func (b *bench) act(t *testing.T, p *Plan, by ...*estate.Signer) *Outcome {
	t.Helper()
	o, err := p.Act(t.Context(), &Means{Set: b.Set, Estate: b.Dir, Signers: by, Index: b.index, Prove: time.Millisecond, Now: func() time.Time { return b.Now.Add(2 * time.Minute) }, Say: t.Logf,
		Dispatch: func() (*dispatch.Dispatch, error) {
			return dispatch.New(&dispatch.Order{Custodians: []string{"c1"}, Trust: new(verify.Trust), Wait: time.Millisecond,
				Channels: []dispatch.Channel{{Name: "a", Send: func(context.Context, []byte) error { return nil }}}}), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func targets(p *Plan) (list []string) {
	for _, s := range p.Steps {
		name := s.Target.String()
		if s.Target.Kind == "key" {
			name = "key of " + s.Name[strings.LastIndex(s.Name, " ")+1:]
		}
		list = append(list, fmt.Sprintf("%s end=%v %s", name, s.End, strings.Join(s.Alone, "|")))
	}
	return list
}

// Each scope closes what it means, in the order of what closes most, and says who closes that alone.
func TestScopes(t *testing.T) {
	b := newBench(t)
	yes := true
	for scope, want := range map[string][]string{
		"workload research-agent":    {"workload research-agent end=false ada"},
		"route openai":               {"credential research-openai end=false cora", "credential support-openai end=false cora"},
		"route fast":                 {"credential research-openai end=false cora", "credential support-openai end=false cora"},
		"credential support-openai":  {"credential support-openai end=true cora"},
		"unit research":              {"unit research end=false ada", "credential research-openai end=true cora", "credential research-anthropic end=true cora"},
		"gateway g1":                 {"gateway g1 end=false bea", "key of research-agent end=false ada", "key of support-agent end=false ada"},
		"custodian c1":               {"credential research-openai end=true cora", "credential research-anthropic end=true cora", "credential support-openai end=true cora", "credential support-anthropic end=true cora"},
		"service " + host(b):         {"credential research-openai end=true cora", "credential research-anthropic end=true cora", "credential support-openai end=true cora", "credential support-anthropic end=true cora"},
		"all":                        {"everything end=false ", "credential research-openai end=true cora", "credential research-anthropic end=true cora", "credential support-openai end=true cora", "credential support-anthropic end=true cora"},
		"workload research-agent +e": {"workload research-agent end=false ada", "credential research-openai end=true cora", "credential research-anthropic end=true cora"},
	} {
		scope, more := strings.CutSuffix(scope, " +e")
		var end *bool
		if more {
			end = &yes
		}
		if diff := cmp.Diff(want, targets(b.plan(t, scope, end))); diff != "" {
			t.Errorf("%s: %s", scope, diff)
		}
	}
	for _, bad := range []string{"workload nobody", "route nothing", "credential x", "unit x", "gateway g9", "custodian c9", "service example.com"} {
		s, err := ParseScope(strings.Fields(bad)...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(t.Context(), &Basis{Set: b.Set, Index: b.index, Now: b.Now}, s, nil, "test"); !errors.Is(err, ErrScope) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "all x", "gateway", "person ada", "everything x"} {
		if _, err := ParseScope(strings.Fields(bad)...); !errors.Is(err, ErrScope) {
			t.Errorf("%q is a scope", bad)
		}
	}
	if s, err := ParseScope("gateway:g1"); err != nil || s != (Scope{OfGateway, "g1"}) {
		t.Errorf("%v, %v", s, err)
	}
}

func host(b *bench) string {
	return strings.TrimPrefix(b.Set.Custody["research"].Credentials[0].Destination.Origin, "https://")
}

// The plan says whose work stops, by what was used, and which secrets there are.
func TestPlanBreaks(t *testing.T) {
	b := newBench(t)
	p := b.plan(t, "unit research", nil)
	if len(p.Breaks) != 1 || p.Breaks[0].Workload != "research-agent" || p.Breaks[0].Uses != 1 || len(p.Credentials) != 2 || len(p.Credentials[0].Versions) != 1 || p.Credentials[0].Owner != "cora" {
		t.Errorf("%+v", p)
	}
	if p = b.plan(t, "gateway g1", nil); len(p.Breaks) != 2 || len(p.Models) != 4 {
		t.Errorf("%+v %v", p.Breaks, p.Models)
	}
}

// A policy owner freezes his unit alone; what ends at its source waits for its owner, and is said to be closed meanwhile. The owner's own run
// signs what was missing and nothing twice; a third signs nothing.
func TestActGoesOn(t *testing.T) {
	b := newBench(t)
	count := func() int {
		all, err := estate.ReadRecords(b.Dir.Store(), "revocation")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	o := b.act(t, b.plan(t, "unit research", nil), b.Ada)
	if count() != 1 || len(o.Records) != 1 || len(o.Waiting) != 2 || !o.Waiting[0].Denied || !strings.Contains(o.Waiting[0].Command, "--as cora") || o.Contained || o.Done() {
		t.Errorf("%d records, %+v", count(), o)
	}
	o = b.act(t, b.plan(t, "unit research", nil), b.Ada, b.Cora)
	if count() != 3 || len(o.Records) != 3 || len(o.Waiting) != 0 || len(o.Unproven) != 2 || o.Residual.NoEnd != 2 || o.Contained {
		t.Errorf("%d records, %+v", count(), o)
	}
	o = b.act(t, b.plan(t, "unit research", nil), b.Ada, b.Cora)
	if count() != 3 || len(o.Records) != 3 || !o.Begun.Equal(b.Now.Add(2*time.Minute)) {
		t.Errorf("%d records, %+v", count(), o)
	}
	if len(o.Warnings) != 3 {
		t.Errorf("one channel is too few, and nobody says so: %v", o.Warnings)
	}
}

// What cannot be done of one record holds up no other, and is not called done.
func TestActDoesTheRest(t *testing.T) {
	b := newBench(t)
	calls, broken := 0, errors.New("the disk is full")
	o, err := b.plan(t, "unit research", nil).Act(t.Context(), &Means{Set: b.Set, Estate: b.Dir, Signers: []*estate.Signer{b.Ada, b.Cora}, Index: b.index, Prove: time.Millisecond, Now: func() time.Time { return b.Now }, Say: t.Logf,
		Dispatch: func() (*dispatch.Dispatch, error) {
			if calls++; calls == 2 {
				return nil, broken
			}
			return dispatch.New(&dispatch.Order{Custodians: []string{"c1"}, Trust: new(verify.Trust), Wait: time.Millisecond}), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Records) != 2 || len(o.Waiting) != 1 || !strings.Contains(o.Waiting[0].Needs, broken.Error()) || o.Waiting[0].Denied || o.Contained || o.Done() {
		t.Errorf("%+v", o)
	}
}

// What an owner alone may not close waits with one signature, and the second person's run sends it.
func TestActTakesTwo(t *testing.T) {
	b := newBench(t)
	no := false
	o := b.act(t, b.plan(t, "all", &no), b.Ada)
	if len(o.Records) != 0 || len(o.Waiting) != 1 || o.Waiting[0].Draft != "revocation/ada-1" || o.Contained {
		t.Errorf("%+v", o)
	}
	if o = b.act(t, b.plan(t, "all", &no), b.Ada); len(o.Records) != 0 || o.Waiting[0].Draft != "revocation/ada-1" {
		t.Errorf("the same one twice: %+v", o)
	}
	if o = b.act(t, b.plan(t, "all", &no), b.Bea); len(o.Records) != 1 || len(o.Waiting) != 0 || !cmp.Equal(o.Records[0].By, []string{"ada", "bea"}) && !cmp.Equal(o.Records[0].By, []string{"bea", "ada"}) {
		t.Errorf("%+v", o)
	}
	// Both here, and somebody else's credential: two of its unit freeze it, and its end waits.
	b = newBench(t)
	if o = b.act(t, b.plan(t, "credential research-openai", nil), b.Ada, b.Bea); len(o.Records) != 1 || o.Records[0].End || len(o.Waiting) != 1 {
		t.Errorf("%+v", o)
	}
}

// Residual credential-seconds count from the freeze to the proven death or to the secret's own end; what has neither is counted apart.
func TestResidual(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0).UTC() }
	o := &Outcome{Plan: &Plan{}}
	c := &Credential{ID: "x", Unit: "u", Probe: true}
	e := &dispatch.End{Custodian: "c1", Frozen: at(0), Versions: []dispatch.Ended{
		{Lease: "proven", Provider: at(1), Refused: at(5), Proven: at(65)},
		{Lease: "ends", Provider: at(1), Expires: at(300)},
		{Lease: "ended", Provider: at(1), Expires: at(20)},
		{Lease: "no end", Provider: at(1)},
	}}
	o.add(c, e, at(70))
	o.add(c, &dispatch.End{Custodian: "c2", Frozen: at(0)}, at(70))
	if o.Residual != (Residual{Seconds: 5 + 300 + 20, NoEnd: 1}) || len(o.Dead) != 3 || len(o.Unproven) != 2 {
		t.Errorf("%+v", o)
	}
	for _, d := range o.Unproven {
		if d.Why == "" || d.NoEnd != (d.Lease == "no end") {
			t.Errorf("%+v", d)
		}
	}
}

// What a captured custodian says of the secrets that it had proves nothing: none of them is dead by its word, its keys live on, and it is not contained.
func TestCapturedCustodian(t *testing.T) {
	b := newBench(t)
	p := b.plan(t, "custodian c1", nil)
	if len(p.Keys) != 2 || p.Keys[0].Kind != keyring.Identity || !p.Keys[0].Taken || len(p.Keys[0].Rotate) == 0 {
		t.Errorf("keys: %+v", p.Keys)
	}
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0).UTC() }
	o := &Outcome{Plan: p}
	c := &Credential{ID: "x", Unit: "u", Probe: true}
	said := []dispatch.Ended{{Lease: "proven", Provider: at(1), Refused: at(5), Proven: at(65)}, {Lease: "ended", Provider: at(1), Expires: at(20)}}
	o.add(c, &dispatch.End{Custodian: "c1", Frozen: at(0), Versions: said}, at(70))
	o.add(c, &dispatch.End{Custodian: "c1", Frozen: at(0)}, at(70))
	if len(o.Dead) != 0 || len(o.Unproven) != 3 || o.Residual.NoEnd != 2 {
		t.Errorf("by the captured one's word: %+v dead, %+v not, %+v", o.Dead, o.Unproven, o.Residual)
	}
	o.add(c, &dispatch.End{Custodian: "c2", Frozen: at(0), Versions: said}, at(70))
	if len(o.Dead) != 2 {
		t.Errorf("by another's: %+v", o.Dead)
	}
	if o = b.act(t, b.plan(t, "custodian c1", nil), b.Cora); len(o.Records) != 4 || o.Contained || o.Done() || o.Residual.Keys != 2 || len(o.Warnings) == 0 {
		t.Errorf("%+v", o)
	}
}
