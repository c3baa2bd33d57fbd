package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// ErrHarm means that a drill on a running estate could use what is no bait: it is not begun.
var ErrHarm = errors.New("not drilled: it could touch what is no bait")

// Canary is a workload that is there for drills: policy permits it nothing but bait.
type Canary struct {
	Workload string
	Key      secret.Value // its W0 key
}

// OnEstate plays on the processes that run an estate what does no harm to it: uses of bait and forged calls by a canary workload. Nothing
// is captured, stopped, signed or closed. What is only worked out from the statements is dry, and what is not done is said.
func OnEstate(ctx context.Context, d *host.Dir, set *statement.Set, c Canary, progress io.Writer) (*Report, error) {
	now := time.Now().UTC()
	r := &running{dir: d, set: set, canary: c, client: http.Client{Timeout: 20 * time.Second}}
	if err := r.harmless(now); err != nil {
		return nil, err
	}
	report := &Report{Began: now, Version: process.Version, Played: drills.Running, Level: "unknown"}
	if st, err := operator.New(d.Socket(host.Custodian, "admin")).Status(ctx); err == nil && st.Isolation[r.gateway.ID] != "" {
		report.Level = st.Isolation[r.gateway.ID]
	}
	for _, s := range []struct {
		Scenario
		say  string
		play func(context.Context, *Report) error
	}{
		{Scenario{"S7", "a honey credential is used", true}, "S7: the canary takes bait.", r.takeBait}, // first: it shows that the canary's own proof holds
		{Scenario{"S2", "forged calls to the custodian", true}, "S2: calls that nobody may make.", r.forged},
		{Scenario{"S9", "machine-speed chaining over many credentials", true}, "S9, dry: the limits that are signed.", r.limits},
		{Scenario{"S10", "an owner leaves", true}, "S10, dry: what each owner leaves behind.", r.leavers},
	} {
		fmt.Fprintln(progress, s.say)
		begun := time.Now()
		if err := s.play(ctx, report); err != nil {
			return nil, fmt.Errorf("%s: %w", s.ID, err)
		}
		report.end(s.Scenario, time.Since(begun))
		last := &report.Results[len(report.Results)-1]
		last.Dry, last.Part = s.ID == "S9" || s.ID == "S10", s.ID == "S2"
		switch {
		case last.State != drills.Held:
		case last.Dry:
			last.Detail = "worked out from the statements in force; nothing was tried"
		default:
			last.Detail = "refused after the canary's own proof had held"
		}
	}
	report.NotDone = append(report.NotDone, "S1, S4, S5, S6: no running process is captured, and no upstream is made to reflect; reeve drill does that to an estate of its own",
		"S2: from the place of a gateway, on the hop itself", "S3: it would need proofs of workloads, or revocations, that are in use",
		"S8: nothing that runs is stopped", "S9 and S10 are worked out from the statements, not tried")
	report.sort()
	report.Ended = time.Now().UTC()
	return report, ctx.Err()
}

// running is an estate that runs.
type running struct {
	dir     *host.Dir
	set     *statement.Set
	canary  Canary
	client  http.Client
	gateway *statement.Gateway
	bait    *statement.Credential // that only alarms
	unit    string
}

// harmless looks for a gateway and for bait, and refuses a canary that may use anything else.
func (r *running) harmless(now time.Time) error {
	_, unit, ok := r.set.Workload(r.canary.Workload)
	if !ok {
		return fmt.Errorf("%w: the charter has no workload %q", ErrHarm, r.canary.Workload)
	}
	r.unit = unit.ID
	paths, err := reach.Paths(r.set, now, r.canary.Workload, "")
	if err != nil {
		return err
	}
	for _, p := range paths {
		if c, _, ok := r.set.Credential(p.Credential); !ok || c.Honey == "" {
			return fmt.Errorf("%w: policy permits %s to use %s, which is no bait (reeve can %[2]s): name a workload that is permitted nothing else", ErrHarm, r.canary.Workload, p.Credential)
		}
	}
	for i := range r.set.Operations.Gateways {
		if g := &r.set.Operations.Gateways[i]; r.gateway == nil && slices.Contains(g.Units, r.unit) {
			r.gateway = g
		}
	}
	cu := r.set.Custody[r.unit]
	for i := range cu.Credentials {
		if c := &cu.Credentials[i]; r.bait == nil && c.Honey == "alarm" {
			r.bait = c
		}
	}
	switch {
	case r.gateway == nil:
		return fmt.Errorf("%w: no gateway serves the unit %s", ErrHarm, r.unit)
	case r.bait == nil:
		return fmt.Errorf("%w: the unit %s has no bait that only alarms: reeve credential add … --honey alarm", ErrHarm, r.unit)
	}
	return nil
}

// said is how a call ended.
type said struct {
	status int
	text   string
}

// call makes a call at the gateway with a credential by its name, as whoever has the key.
func (r *running) call(ctx context.Context, key, credential, path string) (said, error) {
	url := strings.TrimSuffix(r.gateway.URL, "/") + "/credentials/" + credential + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return said{}, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return said{}, fmt.Errorf("calling the gateway %s: %w", r.gateway.ID, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return said{resp.StatusCode, string(b)}, err
}

// refused reports whether reeve refused it: an answer of the provider's, whatever it says, is a use.
func (s said) refused() bool {
	return s.status == http.StatusUnauthorized || s.status == http.StatusForbidden
}

// find waits for an entry of a custodian that was written since and is it.
func (r *running) find(ctx context.Context, since time.Time, is func(*entry.Entry) bool) (*entry.Entry, error) {
	return findEntry(ctx, r.each, r.canarys(since, is))
}

// now is find without waiting.
func (r *running) now(since time.Time, is func(*entry.Entry) bool) (found *entry.Entry, err error) {
	is = r.canarys(since, is)
	err = r.each(func(e *entry.Entry) {
		if is(e) {
			found = e
		}
	})
	return found, err
}

func (r *running) canarys(since time.Time, is func(*entry.Entry) bool) func(*entry.Entry) bool {
	return func(e *entry.Entry) bool {
		return e.TimeNS >= since.UnixNano() && e.Workload == r.canary.Workload && is(e)
	}
}

// each goes through the entries of the estate's custodians.
func (r *running) each(visit func(*entry.Entry)) error {
	var custodians []string
	for _, cu := range r.set.Custody {
		for _, c := range cu.Custodians {
			custodians = append(custodians, c.ID)
		}
	}
	return eachEntry(r.dir, func(process string) bool { return slices.Contains(custodians, process) }, visit)
}

// takeBait uses bait. That the denial's entry names the canary and the reason shows that its proof held: that others do not means something then.
func (r *running) takeBait(ctx context.Context, report *Report) error {
	begun := time.Now()
	got, err := r.call(ctx, string(r.canary.Key.Reveal()), r.bait.ID, pathFor(r.bait))
	if err != nil {
		return err
	}
	s := Line{ID: "S7", Place: "bait, used"}
	if !got.refused() {
		s.hit(fmt.Sprintf("answered %d", got.status))
	}
	e, err := r.find(ctx, begun, func(e *entry.Entry) bool {
		return e.Type == entry.Deny && e.Reason == "honey" && e.Credential == r.bait.ID
	})
	if err != nil {
		return err
	}
	if e == nil {
		return fmt.Errorf("the custodians' ledgers have no denial of %s to %s within %s (the gateway answered %d): is its key in force? Nothing can be said", r.bait.ID, r.canary.Workload, published, got.status)
	}
	s.Detail += fmt.Sprintf("answered %d; the ledger has the denial", got.status)
	report.add(s)
	s = Line{ID: "S7", Place: "the alarm", Detail: "in the ledger"}
	// One a minute: one that was written for an earlier use counts.
	if e, err = r.find(ctx, begun.Add(-time.Minute), func(e *entry.Entry) bool {
		return e.Type == entry.Alarm && e.Reason == "honey" && e.Credential == r.bait.ID
	}); err != nil {
		return err
	}
	if e == nil {
		s.Detail = ""
		s.hit("no alarm in the ledger")
	}
	report.add(s)
	owner, live := r.set.Owner(r.bait.ID, time.Now())
	switch {
	case !live:
		report.NotDone = append(report.NotDone, "S7: nobody is told: "+r.bait.ID+" has no live owner")
	case owner.Notify == "":
		report.NotDone = append(report.NotDone, "S7: "+owner.ID+" is not told: the charter has no notify URL of his")
	default:
		report.NotDone = append(report.NotDone, "S7: whether "+owner.ID+" was told at his notify URL is not seen from here: ask him")
	}
	return nil
}

// pathFor is a path of the credential's record, or one that none has.
func pathFor(c *statement.Credential) string {
	if len(c.Destination.Paths) > 0 && !strings.Contains(c.Destination.Paths[0], "*") {
		return c.Destination.Paths[0]
	}
	return "/v1/models"
}

// forgedMost bounds the calls: a denial costs an entry.
const forgedMost = 10

// forged are calls that nobody may make. None can do harm: the proofs are nobody's, and the canary's is permitted nothing.
func (r *running) forged(ctx context.Context, report *Report) error {
	begun, key, s := time.Now(), string(r.canary.Key.Reveal()), Line{ID: "S2", Place: "forged calls, at the gateway"}
	answered := map[string]int{}
	try := func(what, key, credential string) error {
		got, err := r.call(ctx, key, credential, "/v1/models")
		if err != nil {
			return err
		}
		if answered[fmt.Sprint(got.status)]++; got.status < 400 {
			s.hit(fmt.Sprintf("%s with %s was answered %d", what, credential, got.status))
		}
		return nil
	}
	for what, forged := range map[string]string{"no key": "", "an invented key": "rv_" + strings.Repeat("a", max(1, len(key)-3)), "a key with one character changed": flip(key)} {
		if err := try(what, forged, r.bait.ID); err != nil {
			return err
		}
	}
	tried := 0
	for _, u := range r.set.Charter.Units {
		for _, c := range r.set.Custody[u.ID].Credentials {
			if c.Honey != "" || tried == forgedMost {
				continue
			}
			tried++
			if err := try("the canary", key, c.ID); err != nil {
				return err
			}
		}
	}
	if err := try("a credential that is not there", key, r.bait.ID+"-x"); err != nil {
		return err
	}
	// A use of bait once more, so that what the ledger has of the calls before is known to be all.
	mark := time.Now()
	if _, err := r.call(ctx, key, r.bait.ID, pathFor(r.bait)); err != nil {
		return err
	}
	e, err := r.find(ctx, mark, func(e *entry.Entry) bool { return e.Type == entry.Deny && e.Credential == r.bait.ID })
	if err != nil {
		return err
	}
	if e == nil {
		return fmt.Errorf("the custodians' ledgers do not have the last call within %s: nothing can be said of those before", published)
	}
	if e, err = r.now(begun, func(e *entry.Entry) bool { return e.Type == entry.Intent }); err != nil {
		return err
	}
	if e != nil {
		s.hit(fmt.Sprintf("the ledger has a use of %s by the canary", e.Credential))
	}
	s.Detail += fmt.Sprintf("%d tried, answered %s; the ledger has no use by the canary", tried+4, counts(answered))
	report.add(s)
	return nil
}

// limits looks at what would stop chaining.
func (r *running) limits(_ context.Context, report *Report) error {
	s := Line{ID: "S9", Place: "signed limits"}
	least := int64(0)
	for _, w := range r.set.Charter.Workloads {
		limit := int64(0)
		for _, l := range r.set.Policies[w.Unit].Limits {
			if (l.Workload == w.ID || l.Workload == "*") && l.CredentialsPerMinute > 0 && (limit == 0 || l.CredentialsPerMinute < limit) {
				limit = l.CredentialsPerMinute
			}
		}
		if limit == 0 {
			s.hit(w.ID + " has no limit of credentials a minute")
		}
		least = max(least, limit)
	}
	s.Detail += fmt.Sprintf("%d workloads, each at most %d credentials a minute", len(r.set.Charter.Workloads), least)
	report.add(s)
	return nil
}

// leavers looks at what would be orphaned if each owner left now.
func (r *running) leavers(_ context.Context, report *Report) error {
	s, now, orphans, owners := Line{ID: "S10", Place: "each owner of credentials"}, time.Now(), 0, 0
	for _, p := range r.set.Charter.People {
		without, own := r.set.Without(p.ID), false
		for _, u := range r.set.Charter.Units {
			for _, c := range r.set.Custody[u.ID].Credentials {
				if c.Owner != p.ID {
					continue
				}
				own = true
				switch after, live := without.Owner(c.ID, now); {
				case !live:
					orphans++
				case after.ID == p.ID:
					s.hit(c.ID + " stays " + p.ID + "'s after he left")
				}
			}
		}
		if own {
			owners++
		}
	}
	report.measure("orphaned_count", int64(orphans))
	s.Detail += fmt.Sprintf("%d owners; %d credentials would be orphaned, and so not used, for want of a live deputy", owners, orphans)
	report.add(s)
	return nil
}
