package questions

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/sample"
)

// checks are what `agrees` knows to compare. Each reads the members of the answer that it needs.
var checks = map[string]func(*sample.Answers, []byte) error{
	"blast": blast, "live": live, "accountable": accountable, "units": units, "plan": plan, "uses": uses, "none": none, "breaks": breaks, "outside": outside,
	"can": can, "who-can": whoCan, "hands": hands, "approved": approved, "approved-then": approvedThen, "conflicts": conflicts, "components": components, "vendor": vendor,
	"leaving": leaving, "logs": logs, "findings": findings, "drilled": drilled,
	"orphaned": func(a *sample.Answers, b []byte) error { return posture(b, a.Orphaned) },
	"stale":    func(a *sample.Answers, b []byte) error { return posture(b, a.Idle) },
	"static":   func(a *sample.Answers, b []byte) error { return posture(b, a.Static) },
}

// row is one credential for one business unit, as `reeve blast` has it.
type row struct {
	Credential, Unit, Class string
	Uses, Unknown, Denied   int64
	Workloads               []string
	Live                    bool
	Accountable             struct {
		Policy, Operations, Approvers []string
		Lifecycle                     string
	}
}

func (r *row) key() string { return r.Credential + " for " + r.Unit }

func (r *row) used() bool { return strings.HasPrefix(r.Class, "USED") }

func rows(b []byte) (list []row, err error) {
	var x struct{ Rows []row }
	err = json.Unmarshal(b, &x)
	return x.Rows, err
}

// blast: every row that was used has its class, count, unknown outcomes and workloads; what was within reach is exactly what policy opened; nothing
// was read; what policy kept from this gateway is excluded, and refusals are counted where they were.
func blast(a *sample.Answers, b []byte) error {
	list, err := rows(b)
	if err != nil {
		return err
	}
	used, denied := map[string]*sample.Used{}, map[string]int64{}
	var reachable, excluded []string
	for _, r := range list {
		switch {
		case r.Class == "READ":
			return fmt.Errorf("%s was READ: a gateway has no plaintext", r.key())
		case r.used():
			used[r.key()] = &sample.Used{Class: r.Class, Uses: r.Uses, Unknown: r.Unknown, Workloads: r.Workloads}
		case r.Class == "REACHABLE":
			reachable = append(reachable, r.key())
		case r.Class == "EXCLUDED":
			excluded = append(excluded, r.key())
		}
		if r.Denied > 0 {
			denied[r.key()] = r.Denied
		}
	}
	for k, want := range a.Used {
		if got := used[k]; got == nil || !reflect.DeepEqual(got, want) {
			return fmt.Errorf("%s: answered %+v, planted %+v", k, got, want)
		}
	}
	if len(used) != len(a.Used) {
		return fmt.Errorf("%d rows were used, %d planted", len(used), len(a.Used))
	}
	for _, k := range a.Excluded {
		if !slices.Contains(excluded, k) {
			return fmt.Errorf("%s is not excluded", k)
		}
	}
	if !reflect.DeepEqual(denied, a.Denied) {
		return fmt.Errorf("refused: answered %v, planted %v", denied, a.Denied)
	}
	return differ("REACHABLE", reachable, a.Reachable)
}

func live(a *sample.Answers, b []byte) error {
	list, err := rows(b)
	if err != nil {
		return err
	}
	var got []string
	for _, r := range list {
		if r.used() && r.Live && !slices.Contains(got, r.Credential) {
			got = append(got, r.Credential)
		}
	}
	return differ("live", got, a.Live)
}

// accountable: the owners at the start of the window, also where they have changed since.
func accountable(a *sample.Answers, b []byte) error {
	list, err := rows(b)
	if err != nil {
		return err
	}
	changed := 0
	for _, r := range list {
		if !r.used() {
			continue
		}
		err := errors.Join(differ(r.key()+", policy", r.Accountable.Policy, a.Policy[r.Unit]), differ(r.key()+", operations", r.Accountable.Operations, []string{a.Operations}),
			differ(r.key()+", lifecycle", []string{r.Accountable.Lifecycle}, []string{a.Lifecycle[r.Credential]}))
		if r.Credential == a.Proven {
			err = errors.Join(err, differ(r.key()+", approvers", r.Accountable.Approvers, a.ApprovedThen))
		}
		if err != nil {
			return err
		}
		if a.Since[r.Credential] != "" || a.Since[r.Unit] != "" {
			changed++
		}
	}
	if changed == 0 {
		return errors.New("no owner has changed since: the answer shows nothing")
	}
	return nil
}

// units reads the table of --by unit.
func units(a *sample.Answers, b []byte) error {
	type sums struct{ asserted, proven, reachable, uses int64 }
	want := map[string]sums{}
	for k, u := range a.Used {
		_, unit, _ := strings.Cut(k, " for ")
		s := want[unit]
		s.uses += u.Uses
		if u.Class == "USED-PROVEN" {
			s.proven++
		} else {
			s.asserted++
		}
		want[unit] = s
	}
	for _, k := range a.Reachable {
		_, unit, _ := strings.Cut(k, " for ")
		s := want[unit]
		s.reachable++
		want[unit] = s
	}
	_, table, ok := strings.Cut(string(b), "\nUNIT ")
	if !ok {
		return errors.New("there is no table by unit")
	}
	head, body, _ := strings.Cut(table, "\n")
	columns := append([]string{"UNIT"}, strings.Fields(head)...)
	column := func(f []string, name string) int64 {
		n, _ := strconv.ParseInt(f[slices.Index(columns, name)], 10, 64)
		return n
	}
	for line := range strings.Lines(body) {
		f := strings.Fields(line)
		if len(f) != len(columns) {
			break
		}
		got := sums{column(f, "USED-ASSERTED"), column(f, "USED-PROVEN"), column(f, "REACHABLE"), column(f, "USES")}
		if got != want[f[0]] {
			return fmt.Errorf("%s: answered %+v, planted %+v", f[0], got, want[f[0]])
		}
		delete(want, f[0])
	}
	if len(want) > 0 {
		return fmt.Errorf("not in the table: %v", want)
	}
	return nil
}

// plan: the operations owner alone closes the gateway, and what dies is what it can reach.
func plan(a *sample.Answers, b []byte) error {
	var x struct {
		Steps []struct {
			Target struct{ Kind, ID string }
			Alone  []string
		}
		Credentials []struct{ ID string }
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	if len(x.Steps) == 0 || x.Steps[0].Target.Kind != "gateway" || x.Steps[0].Target.ID != a.Captured || !slices.Contains(x.Steps[0].Alone, a.Operations) {
		return fmt.Errorf("the first step is %+v", x.Steps)
	}
	if len(x.Credentials) < len(a.Reachable)/2 {
		return fmt.Errorf("only %d credentials", len(x.Credentials))
	}
	return nil
}

func uses(a *sample.Answers, b []byte) error {
	var x struct {
		Verdict string
		Uses    []struct {
			Type, Workload, Gateway string
			Policies                []string
			Count                   int64
		}
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	got := map[string]int64{}
	for _, u := range x.Uses {
		if u.Type != "intent" {
			continue
		}
		got[u.Workload] += u.Count
		if u.Gateway != a.Captured || len(u.Policies) == 0 {
			return fmt.Errorf("a use through %q under %q", u.Gateway, u.Policies)
		}
	}
	if x.Verdict != "used" || !reflect.DeepEqual(got, a.By[a.Proven]) {
		return fmt.Errorf("%s: answered %v, planted %v", x.Verdict, got, a.By[a.Proven])
	}
	return nil
}

func none(a *sample.Answers, b []byte) error {
	var x struct {
		Verdict string
		Uses    []any
		Ledgers []struct{ Complete bool }
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	if a.All[a.Unused] != 0 || x.Verdict != "none" || len(x.Uses) != 0 || len(x.Ledgers) == 0 || !x.Ledgers[0].Complete {
		return fmt.Errorf("%+v", x)
	}
	return nil
}

func breaks(a *sample.Answers, b []byte) error {
	var x struct {
		Users []struct {
			Workload string
			Uses     int64
		}
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	got := map[string]int64{}
	for _, u := range x.Users {
		if u.Uses > 0 {
			got[u.Workload] = u.Uses
		}
	}
	if !reflect.DeepEqual(got, a.By[a.Outside]) {
		return fmt.Errorf("answered %v, planted %v", got, a.By[a.Outside])
	}
	return nil
}

// outside: the credential is out of band in the class of the hour's blast radius.
func outside(a *sample.Answers, b []byte) error {
	list, err := rows(b)
	if err != nil {
		return err
	}
	var got []string
	for _, r := range list {
		if r.Class == "OUT-OF-BAND" {
			got = append(got, r.Credential)
		}
	}
	return differ("OUT-OF-BAND", got, []string{a.Outside})
}

// paths are what `reeve can` and `reeve who-can` print.
type paths struct {
	Hands []struct {
		Who    string
		Latent bool
	}
	Paths []struct {
		Workload, Credential string
		Closed               []string
	}
	Grounds struct {
		Statements []struct {
			Statement string
			Approvals []struct{ Person string }
		}
	}
}

func can(a *sample.Answers, b []byte) error {
	var x paths
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	var got []string
	for _, p := range x.Paths {
		if p.Workload != a.Workload {
			return fmt.Errorf("a path of %s", p.Workload)
		}
		if len(p.Closed) == 0 && !slices.Contains(got, p.Credential) {
			got = append(got, p.Credential)
		}
	}
	return differ("can", got, a.Can)
}

func whoCan(a *sample.Answers, b []byte) error {
	var x paths
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	var got []string
	for _, p := range x.Paths {
		if len(p.Closed) == 0 {
			return fmt.Errorf("%s was revoked, and %s may use it", a.Proven, p.Workload)
		}
		got = append(got, p.Workload)
	}
	return differ("who can", slices.Compact(got), a.WhoCan)
}

func hands(a *sample.Answers, b []byte) error {
	var x paths
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	var got []string
	for _, h := range x.Hands {
		if !h.Latent {
			got = append(got, h.Who)
		}
	}
	return differ("can read", got, a.ReadBy)
}

func approved(a *sample.Answers, b []byte) error { return approvedBy(a, b, a.ApprovedNow) }

func approvedThen(a *sample.Answers, b []byte) error { return approvedBy(a, b, a.ApprovedThen) }

func approvedBy(a *sample.Answers, b []byte, want []string) error {
	var x paths
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	unit, _, _ := strings.Cut(a.Proven, "-")
	for _, s := range x.Grounds.Statements {
		if s.Statement == "policy-"+unit {
			var got []string
			for _, p := range s.Approvals {
				got = append(got, p.Person)
			}
			return differ("approved", got, want)
		}
	}
	return errors.New("the policy is not among the grounds")
}

// posture reads the list of credentials that are orphaned, stale or static.
func posture(b []byte, want []string) error {
	var x struct{ Credentials []struct{ Credential string } }
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	var got []string
	for _, c := range x.Credentials {
		got = append(got, c.Credential)
	}
	return differ("credentials", got, want)
}

func conflicts(a *sample.Answers, b []byte) error {
	var x []struct {
		Person string
		Latent bool
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	if len(x) != 1 || x[0].Person != a.Conflict || x[0].Latent {
		return fmt.Errorf("answered %+v, planted %s", x, a.Conflict)
	}
	return nil
}

func components(a *sample.Answers, b []byte) error {
	var x struct {
		Components []struct {
			ID    string
			Plane bool `json:"control_plane"`
		}
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	var all, plane []string
	for _, c := range x.Components {
		if all = append(all, c.ID); c.Plane {
			plane = append(plane, c.ID)
		}
	}
	return errors.Join(differ("components", all, []string{"g1", "g2", "g3", "c1", "c2", "c3", "a1", "w1", a.Vendor}), differ("in the control plane", plane, []string{"c1", "c2", "c3", a.Vendor}))
}

// vendor: until it is probed, a vendor's gateway can do everything.
func vendor(a *sample.Answers, b []byte) error {
	var x struct {
		ID                  string
		Declared, Effective []string
		Unprobed, Anchored  bool
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	if x.ID != a.Vendor || !x.Unprobed || !x.Anchored || len(x.Declared) != 2 {
		return fmt.Errorf("%+v", x)
	}
	return differ("effective", x.Effective, []string{"transport", "invoke", "forward", "cache", "retrieve", "mint"})
}

func leaving(a *sample.Answers, b []byte) error {
	var x struct {
		Person struct{ Credentials, Alone []string }
		Rotate []string
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	return differ("owned", x.Person.Credentials, a.Owns)
}

func logs(a *sample.Answers, b []byte) error {
	var x []struct {
		Process string
		Report  struct {
			Level    string
			Logs     []struct{ Size, Cosigned int64 }
			Findings []string
		}
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	got := map[string]int64{}
	for _, p := range x {
		if len(p.Report.Logs) != 1 || p.Report.Level != "cosigned" || len(p.Report.Findings) > 0 || p.Report.Logs[0].Cosigned != p.Report.Logs[0].Size {
			return fmt.Errorf("%+v", p)
		}
		got[p.Process] = p.Report.Logs[0].Size
	}
	if !reflect.DeepEqual(got, a.Logs) {
		return fmt.Errorf("answered %v, planted %v", got, a.Logs)
	}
	return nil
}

func findings(a *sample.Answers, b []byte) error {
	var x []struct{ Rule, Subject string }
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	var got []string
	for _, f := range x {
		got = append(got, f.Rule+" "+f.Subject)
	}
	return differ("findings", got, []string{"chaining workload:" + a.Chainer, "first-seen workload:" + a.Chainer, "denials workload:" + a.Prober, "bait workload:" + a.BaitBy})
}

// drilled: each scenario stands as the newest drill that played it whole found, and somebody signed for that.
func drilled(a *sample.Answers, b []byte) error {
	var x []struct {
		Scenario, State, Anchored string
		Time                      time.Time
		Fresh                     bool
		History                   []any
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	got := map[string]sample.Drilled{}
	for _, s := range x {
		if !s.Fresh {
			return fmt.Errorf("%s was played %s: is that too long ago?", s.Scenario, s.Time)
		}
		got[s.Scenario] = sample.Drilled{State: s.State, Time: s.Time, Played: len(s.History), Signed: s.Anchored}
	}
	if !reflect.DeepEqual(got, a.Drilled) {
		return fmt.Errorf("answered %+v, planted %+v", got, a.Drilled)
	}
	return nil
}
