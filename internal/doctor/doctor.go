// Package doctor explains why a call is refused: it goes through everything that a use needs, in the order in which the custodian
// does, and says of each whether it holds and who does what when it does not. It reads signed files and asks the processes; it
// makes no call and changes nothing.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
)

// State is the outcome of one step.
type State string

// The outcomes.
const (
	OK      State = "ok"
	Fails   State = "fails"
	Unknown State = "unknown"
)

// Finding is one step: what was found and, unless it is well, what to do.
type Finding struct {
	Step   string `json:"step"`
	State  State  `json:"state"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
}

// Call is the call that is asked about.
type Call struct {
	Workload string
	KeyHash  string // hex SHA-256 of the workload's key, when it is at hand
	Model    string // as the client names it
	Method   string
	Path     string // without /openai or /anthropic
	Dialect  string // openai or anthropic; by the path when empty
}

// Process is what a process says of itself.
type Process struct {
	Name  string
	Ready bool
	Waits string
	Log   string
}

// Evidence is what the judgement rests on.
type Evidence struct {
	Now       time.Time
	Set       *statement.Set // nil with SetErr
	SetErr    error
	Processes []Process
	Keys      []*statement.WorkloadKey // those that verify
	Custodian *admin.Status            // nil with AskErr
	AskErr    error
	ID        string // the custodian's
	Gateway   string // the gateway's id
}

// examination is one run through the steps.
type examination struct {
	*Evidence
	call     Call
	findings []Finding

	workload   *statement.Workload
	unit       *statement.Unit
	credential *statement.Credential
	model      string // without the provider's name
}

// Examine goes through the steps. It stops where the next step has nothing to stand on.
func Examine(e *Evidence, call Call) []Finding {
	x := &examination{Evidence: e, call: call}
	x.processes()
	if !x.estate() {
		return x.findings
	}
	x.inForce()
	x.owners()
	if !x.workloadKnown() || !x.route() {
		return x.findings
	}
	x.key()
	x.agreed()
	x.decide()
	x.ceilings()
	x.closed()
	x.isolation()
	x.news()
	x.ledger()
	x.secret()
	return x.findings
}

func (x *examination) add(step string, state State, found, remedy string) {
	if state == OK {
		remedy = ""
	}
	x.findings = append(x.findings, Finding{step, state, found, remedy})
}

func (x *examination) ok(step, format string, v ...any) {
	x.add(step, OK, fmt.Sprintf(format, v...), "")
}

func (x *examination) processes() {
	for _, p := range x.Processes {
		if p.Ready {
			x.ok(p.Name, "ready")
			continue
		}
		x.add(p.Name, Fails, "not ready: "+p.Waits, "read its log, "+p.Log+"; start what is down with: reeve up")
	}
}

func (x *examination) estate() bool {
	if x.SetErr != nil {
		x.add("estate", Fails, x.SetErr.Error(), "reeve estate check names the file and the owner, who mends, signs and publishes it")
		return false
	}
	left := x.Set.Expires.Sub(x.Now)
	x.ok("estate", "version %d, signed until %s (%d days)", x.Set.Lock.Version, x.Set.Expires.Format(time.DateOnly), int(left.Hours()/24))
	return true
}

// inForce compares what is published with what the custodian uses.
func (x *examination) inForce() {
	switch c := x.Custodian; {
	case c == nil:
		x.add("in force", Unknown, fmt.Sprintf("the custodian cannot be asked: %v", x.AskErr), "run this as the custodian's user or root, on its host")
	case c.SetError != "":
		x.add("in force", Fails, fmt.Sprintf("the custodian refused the newest set and uses version %d: %s", c.Lock, c.SetError), "reeve estate check names the file and the owner, who mends, signs and publishes it")
	case c.Lock != x.Set.Lock.Version:
		x.add("in force", Fails, fmt.Sprintf("the custodian uses version %d, published is %d", c.Lock, x.Set.Lock.Version), "wait a moment; if it stays, the authority does not reach the custodian: read both logs")
	default:
		x.ok("in force", "the custodian uses version %d", c.Lock)
	}
}

// owners says what the estate's first item is that nobody will answer for. It is a warning until then, and afterwards the call's
// own steps say whether it concerns this call.
func (x *examination) owners() {
	o := x.Set.Orphans()[0] // every estate has a gateway
	what := fmt.Sprintf("the %s %s (%s owner %s)", o.Kind, o.ID, o.Role, o.Owner)
	switch left := o.At.Sub(x.Now); {
	case left <= 0:
		x.ok("owners", "%s is orphaned and not used: reeve people says who can take it", what)
	case left <= 30*24*time.Hour:
		x.ok("owners", "%s is orphaned in %d days unless somebody attests: reeve attest %s", what, int(left.Hours()/24), o.Owner)
	default:
		x.ok("owners", "everything has its owners until %s at least", o.At.UTC().Format(time.DateOnly))
	}
}

func (x *examination) workloadKnown() bool {
	if x.call.KeyHash != "" {
		for _, k := range x.Keys {
			if k.SHA256 == x.call.KeyHash {
				x.call.Workload = k.Workload
			}
		}
	}
	var ok bool
	if x.workload, x.unit, ok = x.Set.Workload(x.call.Workload); !ok {
		x.add("workload", Fails, fmt.Sprintf("no workload %q, or a key that no record has", x.call.Workload),
			"name one of "+strings.Join(x.workloads(), ", ")+"; the root quorum adds one in charter.yaml")
		return false
	}
	x.ok("workload", "%s of the unit %s", x.workload.ID, x.unit.ID)
	return true
}

func (x *examination) workloads() []string {
	var ids []string
	for _, w := range x.Set.Charter.Workloads {
		ids = append(ids, w.ID)
	}
	return ids
}

// key looks at the workload's keys, or at the one at hand.
func (x *examination) key() {
	remedy := "a policy owner of " + x.unit.ID + " issues one: reeve workload key issue " + x.workload.ID
	var last time.Time
	found := false
	for _, k := range x.Keys {
		if k.Workload == x.workload.ID && (x.call.KeyHash == "" || x.call.KeyHash == k.SHA256) {
			found = true
			if k.NotAfter.After(last) {
				last = k.NotAfter
			}
		}
	}
	switch {
	case !found:
		x.add("key", Fails, "no valid key record", remedy)
	case !x.Now.Before(last):
		x.add("key", Fails, "expired on "+last.Format(time.DateTime), remedy)
	default:
		x.ok("key", "valid until %s", last.Format(time.DateTime))
	}
}

// route finds the provider and the credential that the model stands for, as the gateway does.
func (x *examination) route() bool {
	name := x.call.Model
	if to, ok := x.Set.Operations.Aliases[name]; ok {
		name = to
	}
	provider := x.provider(&name)
	if provider == nil {
		x.add("model", Fails, fmt.Sprintf("no provider serves %q", x.call.Model), "name provider/model; the operations owner adds providers and aliases in operations.yaml")
		return false
	}
	x.model = name
	if len(provider.Models) > 0 && !slices.Contains(provider.Models, name) {
		x.add("model", Fails, fmt.Sprintf("%s does not list the model %q", provider.Name, name), "one of "+strings.Join(provider.Models, ", ")+"; the operations owner adds it in operations.yaml")
		return false
	}
	id := provider.Credentials[x.unit.ID]
	var ok bool
	if x.credential, _, ok = x.Set.Credential(id); !ok {
		x.add("model", Fails, fmt.Sprintf("%s has no credential for the unit %s", provider.Name, x.unit.ID), "the operations owner names one in operations.yaml")
		return false
	}
	x.ok("model", "%s at %s with the credential %s", cmp.Or(name, "any"), provider.Name, id)
	return true
}

// provider takes the provider's name off the model's.
func (x *examination) provider(name *string) *statement.Provider {
	before, after, slash := strings.Cut(*name, "/")
	var standard *statement.Provider
	for i := range x.Set.Operations.Providers {
		p := &x.Set.Operations.Providers[i]
		if slash && p.Name == before {
			*name = after
			return p
		}
		if p.Default && p.Dialect == x.call.dialect() {
			standard = p
		}
	}
	return standard
}

func (c *Call) dialect() string {
	switch {
	case c.Dialect != "":
		return c.Dialect
	case strings.HasPrefix(c.Path, "/v1/messages"):
		return "anthropic"
	}
	return "openai"
}

// agreed is the two keys that operations and custody hold.
func (x *examination) agreed() {
	who := map[string]string{
		"expired_set":         "all owners sign anew: reeve sign, then publish",
		"unknown_gateway":     "the operations owner names the gateway in operations.yaml",
		"wrong_custodian":     "the operations owner names this custodian for the gateway in operations.yaml",
		"unit_not_served":     "the operations owner adds the unit to the gateway in operations.yaml",
		"custodian_not_named": "the lifecycle owner of " + x.unit.ID + " enrols the custodian in custody.yaml",
		"orphaned_gateway":    "the root quorum attests the gateway's owner anew in charter.yaml, or names another",
		"orphaned_credential": "the root quorum attests the credential's owner anew in charter.yaml, or the unit names another",
	}
	if why := x.Set.Route(x.Gateway, x.ID, x.credential.ID, x.Now); why != "" {
		x.add("agreed", Fails, why, who[why])
		return
	}
	owner, _ := x.Set.Owner(x.credential.ID, x.Now)
	x.ok("agreed", "operations and custody name %s, %s and %s; %s answers for the credential", x.Gateway, x.ID, x.credential.ID, owner.ID)
}

func (x *examination) decide() {
	compiled, err := policy.Compile(x.Set)
	if err != nil {
		x.add("policy", Fails, err.Error(), "the policy owner of "+x.unit.ID+" mends the Cedar file, signs and publishes")
		return
	}
	d := compiled.Decide(&policy.Request{Workload: x.workload.ID, Credential: x.credential.ID, Gateway: x.Gateway, Method: x.call.Method,
		Path: x.call.Path, Model: x.model, MaxTokens: -1, Proof: "bearer", Isolation: x.level(), Time: x.Now})
	found := d.Reason
	if len(d.Policies) > 0 {
		found += " by " + strings.Join(d.Policies, ", ")
	}
	if d.Allow {
		x.ok("policy", "%s", found)
		return
	}
	x.add("policy", Fails, found, "the policy owner of "+x.unit.ID+" permits it in units/"+x.unit.ID+", signs and publishes")
}

// level is the isolation level that the custodian sees, or the strongest when it has not seen the gateway yet.
func (x *examination) level() string {
	if x.Custodian != nil && x.Custodian.Isolation[x.Gateway] != "" {
		return x.Custodian.Isolation[x.Gateway]
	}
	return "host"
}

func (x *examination) ceilings() {
	var all []string
	for _, c := range x.Set.Policies[x.unit.ID].Ceilings {
		if (c.Workload == "*" || c.Workload == x.workload.ID) && (c.Credential == "*" || c.Credential == x.credential.ID) {
			for _, n := range []struct {
				most int64
				of   string
			}{{c.RequestsPerMinute, "requests a minute"}, {c.Concurrent, "at a time"}, {c.BytesPerMinute, "bytes a minute"}} {
				if n.most > 0 {
					all = append(all, fmt.Sprintf("%d %s", n.most, n.of))
				}
			}
		}
	}
	if len(all) == 0 {
		all = []string{"none"}
	}
	x.ok("ceilings", "%s; over them a call gets 429", strings.Join(all, ", "))
}

// closed looks for whatever closes the use.
func (x *examination) closed() {
	if x.Custodian == nil {
		return
	}
	for _, c := range x.Custodian.Closed {
		id := map[string]string{"everything": c.Target.ID, "workload": x.workload.ID, "unit": x.unit.ID,
			"credential": x.credential.ID, "gateway": x.Gateway, "key": x.call.KeyHash}[c.Target.Kind]
		if id == c.Target.ID && (id != "" || c.Target.Kind == "everything") {
			x.add("closed", Fails, fmt.Sprintf("%s %s is closed by %s since %s: %s", c.Target.Kind, c.Target.ID, c.By, c.Time.Format(time.DateTime), c.Reason),
				fmt.Sprintf("its owner and one person of another role open it: reeve revoke %s --open --as OWNER --with OTHER --reason WHY", strings.TrimSpace(c.Target.Kind+" "+c.Target.ID)))
			return
		}
	}
	x.ok("closed", "nothing that this use needs")
}

func (x *examination) isolation() {
	if x.Custodian == nil {
		return
	}
	level := x.Custodian.Isolation[x.Gateway]
	rank := func(level string) int {
		return slices.Index([]string{"none", "one-uid", "separate-uid", "host"}, level)
	}
	need := x.Set.Charter.RequireIsolation
	if !x.Set.Charter.Demo && rank(need) < rank("separate-uid") {
		need = "separate-uid"
	}
	if accepted := x.credential.AcceptIsolation; accepted != "" && rank(accepted) < rank(need) {
		need = accepted
	}
	switch {
	case level == "":
		x.add("isolation", Unknown, "the gateway has not called this custodian lately", "make a call and look again")
	case rank(level) < rank(need):
		x.add("isolation", Fails, fmt.Sprintf("the level is %s and %s is needed", level, need), "run gateway and custodian as different users (start as root), or on two hosts")
	default:
		x.ok("isolation", "%s", level)
	}
}

// news is how old the newest news of revocations is.
func (x *examination) news() {
	c := x.Custodian
	if c == nil {
		return
	}
	bound := feedBound(x.Set, x.credential.Class)
	age := time.Duration(c.FeedAgeMS) * time.Millisecond
	_, extended := c.Extensions["feed"]
	switch {
	case c.FeedAgeMS >= 0 && age <= bound || extended:
		x.ok("feed", "news of revocations is %s old, at most %s for class %s", age.Round(time.Millisecond), bound, x.credential.Class)
	default:
		x.add("feed", Fails, fmt.Sprintf("news of revocations is older than %s: %s", bound, c.FeedError), "start the authority, or see why the custodian does not reach it")
	}
}

// feedBound is how old the news may be (design, "Revocation").
func feedBound(set *statement.Set, class string) time.Duration {
	d, standard := time.Duration(set.Charter.Revocation.Normal), 30*time.Second
	if class == "high" {
		d, standard = time.Duration(set.Charter.Revocation.High), 5*time.Second
	}
	if d <= 0 {
		d = standard
	}
	return min(max(d, 2*time.Second), time.Minute)
}

// fuse is the age of the oldest entry without cosignature from which use stops (design, "Ledger").
const fuse = 30 * time.Second

func (x *examination) ledger() {
	c := x.Custodian
	if c == nil {
		return
	}
	lag := time.Duration(c.Ledger.LagMS) * time.Millisecond
	_, extended := c.Extensions["witness"]
	switch {
	case lag > fuse && !extended:
		x.add("ledger", Fails, strings.TrimSuffix(fmt.Sprintf("the oldest entry without cosignature is %s old, at most %s: %s", lag.Round(time.Second), fuse, c.Ledger.Error), ": "), "start the auditor, or see why the custodian does not reach it")
	case c.Ledger.Error != "":
		x.add("ledger", Fails, c.Ledger.Error, "see to the disk, then start the custodian anew; it refuses to use what it cannot write down")
	default:
		x.ok("ledger", "%d entries, %d of them cosigned", c.Ledger.Size, c.Ledger.Cosigned)
	}
}

func (x *examination) secret() {
	if x.Custodian == nil {
		return
	}
	put := "its lifecycle owner, " + x.credential.Owner + ", runs: reeve credential put " + x.credential.ID
	for _, c := range x.Custodian.Credentials {
		if c.ID != x.credential.ID {
			continue
		}
		life := time.Duration(x.credential.MaxLifetime)
		fetched := x.credential.Source != "sealed"
		switch {
		case c.Error != "" && fetched:
			x.add("secret", Fails, c.Error, "its lifecycle owner, "+x.credential.Owner+", sees to the source "+x.credential.Source+" and what it has been told")
		case c.Error != "":
			x.add("secret", Fails, c.Error, put)
		case fetched && len(c.Versions) == 0:
			x.ok("secret", "none is held; the first use gets one from the source %s", x.credential.Source)
		case fetched:
			x.ok("secret", "from the source %s, %s", x.credential.Source, expiry(c.Versions[0].Expires))
		case c.Version == 0:
			x.add("secret", Fails, "nothing was handed over yet", put)
		case life > 0 && x.Now.Sub(c.Created) > life:
			x.add("secret", Fails, fmt.Sprintf("version %d is older than %s", c.Version, life), put)
		default:
			x.ok("secret", "version %d, handed over on %s", c.Version, c.Created.Format(time.DateOnly))
		}
		return
	}
	x.add("secret", Fails, "the custodian does not serve "+x.credential.ID, "the lifecycle owner of "+x.unit.ID+" enrols it in custody.yaml")
}

// expiry says when a secret ends.
func expiry(t time.Time) string {
	if t.IsZero() {
		return "without an end"
	}
	return "until " + t.UTC().Format(time.DateTime)
}
