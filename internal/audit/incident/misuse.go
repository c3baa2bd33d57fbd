package incident

import (
	"context"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/register"
)

// taken says of a sum of the index whether it is what a subject did or had done, and whether a workload's signature proves that the workload did it.
type taken func(*index.Uses) (through, proves bool)

// taken is what was in the subjects' hands. A signature by a workload's key proves nothing once the workload is captured, nor does the word of a
// captured custodian that it verified one, or of an authority that the key is the workload's.
func (m *maker) taken() taken {
	type use struct{ credential, unit, workload string }
	var all []taken
	for i, s := range m.Subjects {
		b := subject(s.ID)
		used := map[use]bool{} // of those that stand in entries under no name of their own
		for _, r := range m.Blast[i].Rows {
			for _, w := range r.Workloads {
				used[use{r.Credential, r.Unit, w}] = r.Uses > 0
			}
		}
		own := func(u *index.Uses) bool { return used[use{u.Credential, u.Unit, u.Workload}] }
		all = append(all, func(u *index.Uses) (bool, bool) {
			switch {
			case b.Kind == blast.Workload:
				return u.Workload == b.ID, false
			case b.Kind == blast.Credential:
				return u.Credential == b.ID, true
			case b.Kind == blast.Unit:
				return u.Unit == b.ID, true
			case b.Kind == blast.Tenant:
				return u.Tenant == b.ID, true
			case b.Kind == blast.Person: // the keys that he issued
				return u.Level == "W0" && own(u), false
			case s.Kind == string(register.Authority):
				return u.Level != "W0" && own(u), false
			case m.process[u.Log] == b.ID:
				return true, false
			}
			return u.Gateway == b.ID, true
		})
	}
	return func(u *index.Uses) (through, proves bool) {
		proves = true
		for _, of := range all {
			if is, signed := of(u); is {
				through, proves = true, proves && signed
			}
		}
		return through, proves
	}
}

// challenge is the refusal that only asks for a signature with a fresh nonce: no attempt at anything.
const challenge = "use_reeve_nonce"

// misuse finds what an attacker can have done: its first and its last entry.
func (m *maker) misuse(ctx context.Context) error {
	x := &m.Misuse
	x.Credentials, x.Workloads, x.Units, x.Owners, x.Reasons = []string{}, []string{}, []string{}, []string{}, map[string]int64{}
	uses, err := m.in.Books.Index.Uses(ctx, index.Filter{From: m.From, To: m.To, Types: []entry.Type{entry.Intent, entry.Deny}},
		index.ByLog, index.ByType, index.ByTenant, index.ByUnit, index.ByWorkload, index.ByGateway, index.ByCredential, index.ByLevel, index.ByProof, index.ByReason)
	if err != nil {
		return err
	}
	taken := m.taken()
	for i := range uses {
		u := &uses[i]
		through, proves := taken(u)
		first, last := time.Unix(0, u.First).UTC(), time.Unix(0, u.Last).UTC()
		from, to := control.Ref{Log: u.Log, Seq: u.FirstSeq}, control.Ref{Log: u.Log, Seq: u.LastSeq}
		switch {
		case !through, u.Reason == challenge:
		case u.Type == entry.Deny:
			x.Denied += u.Count
			x.Reasons[u.Reason] += u.Count
			if x.FirstDenied.IsZero() || first.Before(x.FirstDenied) {
				x.FirstDenied, x.FirstRefuse = first, from
			}
			if last.After(x.LastDenied) {
				x.LastDenied, x.LastRefuse = last, to
			}
		case u.Proof == "pop" && proves:
			x.Proven += u.Count
		default:
			x.Uses += u.Count
			if x.First.IsZero() || first.Before(x.First) {
				x.First, x.FirstEntry = first, from
			}
			if last.After(x.Last) {
				x.Last, x.LastEntry = last, to
			}
			x.Credentials, x.Workloads, x.Units = add(x.Credentials, u.Credential), add(x.Workloads, u.Workload), add(x.Units, u.Unit)
			if owner, ok := m.span.Set.Owner(u.Credential, m.From); ok {
				x.Owners = add(x.Owners, owner.ID)
			}
		}
	}
	return nil
}

// add inserts into a sorted list what is not in it.
func add(list []string, s string) []string {
	if i, ok := slices.BinarySearch(list, s); !ok && s != "" {
		return slices.Insert(list, i, s)
	}
	return list
}
