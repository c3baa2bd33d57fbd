package contain

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/closings"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/keyring"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// lookBack is how far back uses are looked at for what breaks, and for the keys that a gateway has seen: no W0 key lives longer.
const lookBack = 30 * 24 * time.Hour

// Plan is what a containment will do, or has done so far.
type Plan struct {
	Scope       Scope        `json:"scope"`
	Reason      string       `json:"reason"`
	AsOf        time.Time    `json:"as_of"`
	Steps       []Step       `json:"steps"` // in the order in which they are sent: what closes most comes first
	Credentials []Credential `json:"credentials"`
	Breaks      []Break      `json:"breaks"` // what stops working
	Models      []string     `json:"models"` // that operations list for the credentials: provider/model
	// Keys are those of a custodian that is contained: people rotate them, no record ends them.
	Keys []keyring.Key `json:"keys"`
	// Held are the times in which all of it was closed, and that are over.
	Held []Held `json:"held"`
}

// Step is one signed record.
type Step struct {
	Target statement.Target `json:"target"`
	Name   string           `json:"name,omitempty"` // of the target for people, where its id says nothing
	End    bool             `json:"end"`            // the secrets end at their source too
	Why    string           `json:"why"`
	// Alone are the people each of whom closes it alone. Without anybody it takes two people of two different roles.
	Alone  []string  `json:"alone"`
	Record string    `json:"record,omitempty"` // hex, of the record that closes it already
	Signed time.Time `json:"signed,omitzero"`  // when that was signed
	By     []string  `json:"by,omitempty"`     // who signed it
	Opened []Opening `json:"opened,omitempty"` // where it was opened since, as ledgers say: it has to be closed again
	Was    *Past     `json:"was,omitempty"`    // that closed it before it was opened

	env    *statement.Envelope
	issued time.Time // of a key
}

// Needs says whose signatures the step takes.
func (s *Step) Needs() string {
	switch {
	case len(s.Alone) == 0 && s.End:
		return "its accountable owner, and it has none: two people of two different roles freeze it"
	case len(s.Alone) == 0:
		return "two people of two different roles"
	}
	return strings.Join(s.Alone, " or ") + " alone" + map[bool]string{false: ", or two people of two different roles"}[s.End]
}

// Opening is where something that a record closed is open again, whatever records this estate's store has.
type Opening struct {
	Custodian string      `json:"custodian"`
	At        time.Time   `json:"at"`
	By        string      `json:"by"`
	Entry     control.Ref `json:"entry"`
}

// Credential is one that can be used no more.
type Credential struct {
	ID         string    `json:"id"`
	Unit       string    `json:"unit"`
	Owner      string    `json:"owner,omitempty"` // accountable now; empty for nobody
	Source     string    `json:"source"`
	Ends       bool      `json:"ends"`  // its secrets end at their source; else it is closed, and they stay
	Probe      bool      `json:"probe"` // its record names what proves that they are dead
	Custodians []string  `json:"custodians"`
	Versions   []Version `json:"versions"` // that may work now, as the ledgers say
}

// Version is one secret.
type Version struct {
	Custodian   string    `json:"custodian"`
	Lease       string    `json:"lease"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	State       string    `json:"state"`
	Expires     time.Time `json:"expires,omitzero"`
}

// Break is a workload that can do less from now on.
type Break struct {
	Workload    string    `json:"workload"`
	Unit        string    `json:"unit"`
	Credentials []string  `json:"credentials"` // that it used in the last 30 days and can use no more
	Uses        int64     `json:"uses"`        // of them, in that time
	Last        time.Time `json:"last"`
}

// Basis is what a plan is made from.
type Basis struct {
	Set     *statement.Set
	Records map[string]*statement.Envelope // revocations that were signed before, by name
	Keys    []estate.KeyState              // workload keys
	Index   index.Reader
	Now     time.Time
}

// New plans. With end nil the scope itself says whether secrets end at their source.
func New(ctx context.Context, b *Basis, s Scope, end *bool, reason string) (*Plan, error) {
	list, err := s.credentials(b.Set)
	if err != nil {
		return nil, err
	}
	ends := s.ends()
	if end != nil {
		ends = *end
	}
	p := &Plan{Scope: s, Reason: reason, AsOf: b.Now.UTC(), Steps: []Step{}, Credentials: []Credential{}, Breaks: []Break{}, Models: []string{}, Keys: []keyring.Key{}, Held: []Held{}}
	if err := p.close(ctx, b, list, ends); err != nil {
		return nil, err
	}
	if err := p.versions(ctx, b, list, ends); err != nil {
		return nil, err
	}
	if err := p.keys(ctx, b); err != nil {
		return nil, err
	}
	return p, p.breaks(ctx, b, list)
}

// close lists the records.
func (p *Plan) close(ctx context.Context, b *Basis, list []*statement.Credential, ends bool) error {
	closed, past := signed(b)
	process, err := processes(ctx, b.Index)
	if err != nil {
		return err
	}
	denied, err := closings.Read(ctx, b.Index, process, b.Now.Add(1))
	if err != nil {
		return err
	}
	add := func(t statement.Target, name string, end bool, why string) *Step {
		step := Step{Target: t, Name: name, End: end, Why: why, Alone: []string{}}
		for i := range b.Set.Charter.People {
			if id := b.Set.Charter.People[i].ID; b.Set.MayClose(t, end, b.Now, id) {
				step.Alone = append(step.Alone, id)
			}
		}
		if c := closed[t]; c != nil && (!end || c.ended != nil) {
			if c.ended != nil {
				c.step = *c.ended
			}
			if step.Opened = opened(b, &step, c.step.Signed, denied); step.Opened == nil {
				step.Record, step.Signed, step.By, step.env = c.step.Record, c.step.Signed, c.step.By, c.step.env
			} else {
				step.Was = c.step.past()
			}
		} else if c := past[t]; c != nil {
			step.Was = c.past()
		}
		p.Steps = append(p.Steps, step)
		return &p.Steps[len(p.Steps)-1]
	}
	switch s := p.Scope; s.Kind {
	case OfWorkload:
		add(statement.Target{Kind: "workload", ID: s.ID}, "", false, "nothing is used in its name")
	case OfUnit:
		add(statement.Target{Kind: "unit", ID: s.ID}, "", false, "its workloads use nothing, and nobody uses its credentials")
	case OfGateway:
		add(statement.Target{Kind: "gateway", ID: s.ID}, "", false, "nothing is used through it")
		keys, err := p.seen(ctx, b)
		if err != nil {
			return err
		}
		for _, k := range keys {
			add(statement.Target{Kind: "key", ID: k.SHA256}, k.Prefix+"… of "+k.Workload, false, "the gateway has seen it: whoever has it is the workload until it ends").issued = k.NotBefore
		}
	case OfAll:
		add(statement.Target{Kind: "everything"}, "", false, "nothing is used")
	}
	for _, c := range list {
		t := statement.Target{Kind: "credential", ID: c.ID}
		switch {
		case ends:
			add(t, "", true, "nobody uses it, and its secrets end at their source")
		case p.Scope.Kind == OfRoute || p.Scope.Kind == OfService || p.Scope.Kind == OfCredential:
			add(t, "", false, "nobody uses it")
		}
	}
	p.Held = p.held(b, denied)
	return nil
}

// past is the step's record as one that closes no more.
func (s *Step) past() *Past { return &Past{Record: s.Record, Signed: s.Signed, By: s.By} }

// seen are the W0 keys of workloads that showed a bearer to the gateway.
func (p *Plan) seen(ctx context.Context, b *Basis) (list []estate.KeyState, err error) {
	uses, err := b.Index.Uses(ctx, index.Filter{From: b.Now.Add(-lookBack), Gateway: p.Scope.ID}, index.ByWorkload, index.ByProof)
	if err != nil {
		return nil, fmt.Errorf("whose keys the gateway has seen: %w", err)
	}
	for _, k := range b.Keys {
		if slices.ContainsFunc(list, func(o estate.KeyState) bool { return o.SHA256 == k.SHA256 }) {
			continue // rotated: it has a second record
		}
		bearer := slices.ContainsFunc(uses, func(u index.Uses) bool { return u.Workload == k.Workload && u.Proof != "pop" })
		if bearer && (k.State == "valid" || k.State == "closed" && k.NotAfter.After(b.Now)) {
			list = append(list, k)
		}
	}
	return list, nil
}

// closing is what closes a target now: the newest record, and the newest that ends its secrets.
type closing struct {
	step  Step
	ended *Step
}

// opened is where the target is open again after the record that closes it was signed. One that was signed after the opening is still on its way.
func opened(b *Basis, s *Step, signed time.Time, denied *closings.Closings) (list []Opening) {
	for _, id := range custodians(b.Set, s) {
		if c := denied.Opened(id, s.Target, b.Now); c != nil && c.At.After(signed) {
			list = append(list, Opening{Custodian: id, At: c.At, By: c.By, Entry: c.Entry})
		}
	}
	return list
}

// processes are whose logs there are, by id.
func processes(ctx context.Context, x index.Reader) (map[string]string, error) {
	logs, err := x.Logs(ctx)
	process := map[string]string{}
	for _, l := range logs {
		process[l.ID] = l.Process
	}
	return process, err
}

// signed reads what signed records close now, and by which record each target was closed last that another opened again.
func signed(b *Basis) (all map[statement.Target]*closing, past map[statement.Target]*Step) {
	all, past = map[statement.Target]*closing{}, map[statement.Target]*Step{}
	opened := map[statement.Target]time.Time{}
	type record struct {
		*statement.Revocation
		step Step
	}
	var records []record
	for _, env := range b.Records {
		r, err := b.Set.OpenRevocation(env, b.Now)
		if err != nil {
			continue
		}
		if r.Open && r.Time.After(opened[r.Target]) {
			opened[r.Target] = r.Time
		}
		id := env.ID()
		step := Step{Target: r.Target, End: r.End, Record: hex.EncodeToString(id[:]), Signed: r.Time, By: signers(b.Set, env), env: env}
		records = append(records, record{r, step})
	}
	slices.SortFunc(records, func(x, y record) int {
		return cmp.Or(x.Time.Compare(y.Time), strings.Compare(x.step.Record, y.step.Record))
	})
	for _, r := range records {
		if r.Open {
			continue
		}
		if !r.Time.After(opened[r.Target]) {
			if last := past[r.Target]; last == nil || r.End || !last.End { // what ended its secrets says what became of them
				past[r.Target] = &r.step
			}
			continue
		}
		c := all[r.Target]
		if c == nil {
			c = &closing{step: r.step}
			all[r.Target] = c
		}
		if r.End && c.ended == nil {
			c.ended = &r.step
		}
	}
	return all, past
}

// versions lists the credentials, and the secrets that the ledgers know to be usable.
func (p *Plan) versions(ctx context.Context, b *Basis, list []*statement.Credential, ends bool) error {
	process, err := processes(ctx, b.Index)
	if err != nil {
		return err
	}
	live := map[string][]Version{}
	all, err := b.Index.Versions(ctx, index.Filter{From: b.Now, To: b.Now.Add(1)})
	if err != nil {
		return fmt.Errorf("which secrets there are: %w", err)
	}
	for _, v := range all {
		one := Version{Custodian: process[v.Log], Lease: v.Lease, Fingerprint: v.Fingerprint, State: v.State}
		if v.Expires != 0 {
			one.Expires = time.Unix(v.Expires, 0).UTC()
		}
		live[v.Credential] = append(live[v.Credential], one)
	}
	for _, c := range list {
		_, unit, _ := b.Set.Credential(c.ID)
		one := Credential{ID: c.ID, Unit: unit.ID, Source: c.Source, Ends: ends, Custodians: c.Custodians, Versions: []Version{}}
		one.Versions = append(one.Versions, live[c.ID]...)
		if filled, err := custody.Read(*c); err == nil {
			one.Probe = filled.Probe.Method != ""
		}
		if owner, ok := b.Set.Owner(c.ID, b.Now); ok {
			one.Owner = owner.ID
		}
		if len(one.Custodians) == 0 {
			for _, k := range b.Set.Custody[unit.ID].Custodians {
				one.Custodians = append(one.Custodians, k.ID)
			}
		}
		p.Credentials = append(p.Credentials, one)
		for _, provider := range b.Set.Operations.Providers {
			if provider.Credentials[unit.ID] != c.ID {
				continue
			}
			for _, m := range provider.Models {
				if name := provider.Name + "/" + m; !slices.Contains(p.Models, name) {
					p.Models = append(p.Models, name)
				}
			}
		}
	}
	slices.Sort(p.Models)
	return nil
}

// keys lists what a custodian has besides. Those that it had within the time that is looked back count.
func (p *Plan) keys(ctx context.Context, b *Basis) error {
	if p.Scope.Kind != OfCustodian {
		return nil
	}
	process, err := processes(ctx, b.Index)
	if err != nil {
		return err
	}
	now := &history.Span{From: b.Set.Lock.Created, Set: b.Set}
	a := keyring.Asked{Custodian: p.Scope.ID, Spans: []*history.Span{now}, Now: now, From: b.Now.Add(-lookBack), To: b.Now.Add(1), AsOf: b.Now}
	for id, of := range process {
		if of == p.Scope.ID {
			a.Logs = append(a.Logs, id)
		}
	}
	p.Keys, err = keyring.Of(ctx, b.Index, a)
	return err
}

// breaks lists who used what stops working.
func (p *Plan) breaks(ctx context.Context, b *Basis, list []*statement.Credential) error {
	f := index.Filter{From: b.Now.Add(-lookBack), Types: []entry.Type{entry.Intent}}
	switch p.Scope.Kind {
	case OfWorkload:
		f.Workload = p.Scope.ID
	case OfGateway:
		f.Gateway = p.Scope.ID
	}
	uses, err := b.Index.Uses(ctx, f, index.ByUnit, index.ByWorkload, index.ByCredential)
	if err != nil {
		return fmt.Errorf("what breaks: %w", err)
	}
	in := map[string]bool{}
	for _, c := range list {
		in[c.ID] = true
	}
	for _, u := range uses { // sorted by unit, workload, credential
		own := p.Scope.Kind == OfWorkload || p.Scope.Kind == OfGateway || p.Scope.Kind == OfUnit && u.Unit == p.Scope.ID
		if !own && !in[u.Credential] {
			continue
		}
		n := len(p.Breaks)
		if n == 0 || p.Breaks[n-1].Workload != u.Workload {
			p.Breaks = append(p.Breaks, Break{Workload: u.Workload, Unit: u.Unit})
			n++
		}
		w := &p.Breaks[n-1]
		w.Credentials, w.Uses = append(w.Credentials, u.Credential), w.Uses+u.Count
		if last := time.Unix(0, u.Last).UTC(); last.After(w.Last) {
			w.Last = last
		}
	}
	return nil
}
