package detect

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

// Finding is one thing that somebody has to look at.
type Finding struct {
	ID       string        `json:"id"` // the same when it is found again: of the rule and of the entry that crossed its limit
	Rule     string        `json:"rule"`
	Severity Severity      `json:"severity"`
	What     string        `json:"what"`    // one sentence: what is so, and what to do
	Subject  string        `json:"subject"` // "workload:research-agent"
	Tenant   string        `json:"tenant,omitempty"`
	Unit     string        `json:"unit,omitempty"` // the workload's
	Gateways []string      `json:"gateways"`       // that it came through
	Names    []string      `json:"names"`          // credentials, or services: the first few of what was counted
	Count    int64         `json:"count"`          // the most that was within the rule's window
	Limit    int64         `json:"limit"`
	First    time.Time     `json:"first"` // of the entries counted
	Last     time.Time     `json:"last"`
	Owners   []Owner       `json:"owners"` // who must act, as of then
	Refs     []control.Ref `json:"refs"`   // the entry that crossed the limit, and the last one so far
}

// visible is the finding with its texts as they may be shown: receivers put them into messages and terminals, and entries name what others chose.
func (f *Finding) visible() *Finding {
	v := *f
	for _, s := range []*string{&v.What, &v.Subject, &v.Tenant, &v.Unit} {
		*s = terminal.Visible(*s)
	}
	for _, list := range []*[]string{&v.Gateways, &v.Names} {
		*list = slices.Clone(*list)
		for i := range *list {
			(*list)[i] = terminal.Visible((*list)[i])
		}
	}
	v.Owners = slices.Clone(v.Owners)
	for i, o := range v.Owners {
		v.Owners[i] = Owner{terminal.Visible(o.Person), terminal.Visible(o.For)}
	}
	return &v
}

// Owner is a person who has to act, and as what.
type Owner struct {
	Person string `json:"person"`
	For    string `json:"for"` // "operations of g2", "policy of claims", "claims-openai-012"
}

// names is how many names a finding lists at most.
const names = 12

// Detector takes entries, those of each ledger in order and all about by time, and makes findings. It keeps what lies within its rules' windows,
// and the pairs of workload and credential that were ever used. Not safe for concurrent use.
type Detector struct {
	Rules   []Rule
	History *history.History // of the statements; nil names no owners

	begun map[string]int64 // by log: time of the first entry
	pairs map[[2]string]bool
	open  map[key]*episode
	state map[key]*window
	all   []*Finding
	added int // entries since windows that ran empty were forgotten
}

// key is a rule and what it counts for: a workload, or a workload's proof.
type key struct{ rule, subject, proof string }

// episode is a finding that may go on.
type episode struct {
	*Finding
	crossed int64 // Unix time in nanoseconds of the newest entry beyond the limit
}

// New makes a detector with the default rules.
func New(h *history.History) *Detector {
	return &Detector{Rules: Rules(), History: h, begun: map[string]int64{}, pairs: map[[2]string]bool{}, open: map[key]*episode{}, state: map[key]*window{}}
}

// Known has the detector take the pair of a workload and a credential for one that was used before.
func (d *Detector) Known(workload, credential string) {
	d.pairs[[2]string{workload, credential}] = true
}

// Begun says when a log began, to one who is not given its first entries.
func (d *Detector) Begun(log string, first time.Time) { d.begun[log] = first.UnixNano() }

// Findings are those so far, sorted by time and id. Their counts are as of now.
func (d *Detector) Findings() []*Finding {
	list := slices.Clone(d.all)
	slices.SortFunc(list, func(a, b *Finding) int { return cmp.Or(a.First.Compare(b.First), strings.Compare(a.ID, b.ID)) })
	return list
}

// Add takes an entry and returns the findings that begin with it.
func (d *Detector) Add(e *entry.Entry) (begun []*Finding) {
	if _, ok := d.begun[e.Log]; !ok {
		d.begun[e.Log] = e.TimeNS
	}
	if d.added++; d.added == forgetAfter {
		d.forget(e.TimeNS)
	}
	if e.Workload == "" || e.Type != entry.Intent && e.Type != entry.Deny {
		return nil
	}
	count := func(id, proof, word string, weight int64) {
		r := ruleOf(d.Rules, id)
		if r == nil {
			return
		}
		k := key{id, e.Workload, proof}
		n, seen := weight, []sighting{{e.TimeNS, word, weight}}
		if r.Window > 0 {
			w := d.state[k]
			if w == nil {
				w = newWindow(r.Window)
				d.state[k] = w
			}
			w.add(e.TimeNS, word, weight)
			if n, seen = w.distinct(), w.seen; id == Denials {
				n = w.total
			}
		}
		if f := d.judge(r, k, e, n, seen); f != nil {
			begun = append(begun, f)
		}
	}
	if e.Type == entry.Deny {
		if e.Reason == "honey" {
			count(Bait, "", e.Credential, 1)
		}
		count(Denials, "", e.Credential, max(e.Count, 1))
		return begun
	}
	count(Chaining, "", e.Credential, 1)
	if pair := [2]string{e.Workload, e.Credential}; !d.pairs[pair] {
		if d.pairs[pair] = true; e.TimeNS-d.begun[e.Log] >= int64(learning) {
			count(FirstSeen, "", e.Credential, 1)
		}
	}
	if i := slices.IndexFunc(e.Actor, func(a string) bool { return strings.HasPrefix(a, "token:") }); i >= 0 {
		count(Proof, e.Actor[i], e.Dest, 1)
	}
	count(Fanout, "", e.Dest+" "+e.Method+" "+e.PathHash, 1)
	if n := acting(e.Actor); n > 0 {
		count(Depth, "", e.Credential, n)
	}
	return begun
}

// forgetAfter is how many entries may pass before windows and findings that are over are let go.
const forgetAfter = 10_000

func (d *Detector) forget(now int64) {
	d.added = 0
	maps.DeleteFunc(d.state, func(_ key, w *window) bool { w.forget(now); return len(w.seen) == 0 })
	maps.DeleteFunc(d.open, func(_ key, x *episode) bool { return now-x.crossed > int64(quiet) })
}

// acting is how many act for a workload, one for another.
func acting(actors []string) (n int64) {
	for _, a := range actors {
		if strings.HasPrefix(a, "act:") {
			n++
		}
	}
	return n
}

// judge holds a count against its rule. It returns a finding that begins.
func (d *Detector) judge(r *Rule, k key, e *entry.Entry, n int64, seen []sighting) *Finding {
	if n <= r.Limit {
		return nil
	}
	x := d.open[k]
	begins := x == nil || e.TimeNS-x.crossed > int64(quiet)
	if begins {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %d", r.ID, e.Workload, e.Log, e.Seq))
		x = &episode{Finding: &Finding{ID: hex.EncodeToString(sum[:8]), Rule: r.ID, Severity: r.Severity, Subject: "workload:" + e.Workload, Tenant: e.Tenant, Unit: e.Unit, Limit: r.Limit,
			Gateways: []string{}, Names: []string{}, Owners: []Owner{}, First: instant(seen[0].at)}}
		d.open[k], d.all = x, append(d.all, x.Finding)
	}
	f := x.Finding
	x.crossed, f.Last, f.Count = e.TimeNS, instant(e.TimeNS), max(f.Count, n)
	if e.Gateway != "" && !slices.Contains(f.Gateways, e.Gateway) {
		f.Gateways = append(f.Gateways, e.Gateway)
	}
	for _, s := range seen {
		if len(f.Names) < names && r.ID != Fanout && !slices.Contains(f.Names, s.word) {
			f.Names = append(f.Names, s.word)
		}
	}
	ref := control.Ref{Log: e.Log, Seq: e.Seq}
	if f.Refs = append(f.Refs, ref); len(f.Refs) > 2 {
		f.Refs = []control.Ref{f.Refs[0], ref}
	}
	f.What = r.say(e, f)
	d.owners(f, e)
	if !begins {
		return nil
	}
	return f
}

func instant(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// say is the sentence of a finding.
func (r *Rule) say(e *entry.Entry, f *Finding) string {
	within := ""
	if r.Window > 0 {
		within = " within " + strings.TrimSuffix(strings.TrimSuffix(r.Window.String(), "0s"), "0m")
	}
	through := strings.Join(f.Gateways, ", ")
	if through != "" {
		through = " through " + through
	}
	return fmt.Sprintf("%s: %d %s%s%s, where up to %d are ordinary. Ask its owner; if nobody knows of it: reeve freeze workload %s", e.Workload, f.Count, r.What, within, through, r.Limit, e.Workload)
}

// owners names who must act: the operations owner of each gateway, the policy owners of the workload's unit, and the owners of the credentials
// that the finding names.
func (d *Detector) owners(f *Finding, e *entry.Entry) {
	if d.History == nil {
		return
	}
	s := d.History.Of(e.Estate)
	if s == nil {
		return
	}
	t := instant(e.TimeNS)
	add := func(person, what string) {
		if o := (Owner{person, what}); !slices.Contains(f.Owners, o) {
			f.Owners = append(f.Owners, o)
		}
	}
	for _, id := range f.Gateways {
		if g, ok := s.Gateway(id); ok {
			for _, p := range s.Signers(statement.Owner{Person: g.Owners.Operations, Role: "operations"}, t) {
				add(p, "operations of "+id)
			}
		}
	}
	for _, p := range s.Signers(statement.Owner{Role: "policy", Unit: f.Unit}, t) {
		add(p, "policy of "+f.Unit)
	}
	for _, name := range f.Names {
		if p, ok := s.Owner(name, t); ok {
			add(p.ID, name)
		}
	}
}
