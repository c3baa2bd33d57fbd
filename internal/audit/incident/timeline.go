package incident

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/evidence"
)

// timeline puts together what the ledgers have of the time from the window's begin on, and the incident's own steps.
func (m *maker) timeline(ctx context.Context) error {
	m.Timeline = []Moment{}
	events, err := m.in.Books.Index.Events(ctx, index.Filter{From: m.From})
	if err != nil {
		return err
	}
	for i := range events {
		if what := tell(&events[i]); what != "" {
			e := &events[i]
			m.Timeline = append(m.Timeline, Moment{Time: time.Unix(0, e.Time).UTC(), Process: m.process[e.Log], What: what, Who: brief(e.Actor), Unit: e.Unit, Entry: &control.Ref{Log: e.Log, Seq: e.Seq}})
		}
	}
	edge := func(t time.Time, ref control.Ref, what string) {
		if !t.IsZero() {
			m.Timeline = append(m.Timeline, Moment{Time: t, Process: m.process[ref.Log], What: what, Entry: &ref})
		}
	}
	edge(m.Misuse.First, m.Misuse.FirstEntry, "first use that can have been the attacker's")
	edge(m.Misuse.Last, m.Misuse.LastEntry, "last use that can have been the attacker's")
	edge(m.Misuse.FirstDenied, m.Misuse.FirstRefuse, "first attempt that was refused")
	edge(m.Misuse.LastDenied, m.Misuse.LastRefuse, "last attempt that was refused")
	for i := range m.in.Journal.Steps {
		s := &m.in.Journal.Steps[i]
		one := Moment{Time: s.Time.UTC(), Process: "journal", What: strings.TrimSuffix("step "+fmt.Sprint(s.Number)+", "+s.Kind+": "+s.Text, ": "), Who: s.Signers}
		if a := m.in.Anchors[s.Hash]; a != nil {
			one.Entry = &a.Entry
		}
		m.Timeline = append(m.Timeline, one)
	}
	slices.SortStableFunc(m.Timeline, func(a, b Moment) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.What, b.What)) })
	return nil
}

// tell says an event in a few words; nothing for what is no news.
func tell(e *index.Event) string {
	of := ""
	for _, x := range [][2]string{{"credential", e.Credential}, {"workload", e.Workload}, {"gateway", e.Gateway}, {"unit", e.Unit}, {"tenant", e.Tenant}} {
		if x[1] != "" {
			of = " of the " + x[0] + " " + x[1]
			break
		}
	}
	why := ""
	if e.Reason != "" {
		why = ": " + e.Reason
		if before, hash, ok := strings.Cut(why, "sha256:"); ok && len(hash) > 12 {
			why = before + "record " + hash[:12] + "…"
		}
	}
	switch e.Type {
	case entry.Revoke, entry.Freeze:
		return "closing" + of + " in force" + why
	case entry.Unfreeze:
		return "opening" + of + why
	case entry.BreakGlass:
		return "break-glass" + of + why
	case entry.Alarm:
		return "alarm" + of + why
	case entry.Retire:
		return "a log was succeeded" + why
	case entry.Probe:
		return "probe" + of
	case entry.Publish:
		if e.Reason == "handover" || strings.HasPrefix(e.Reason, "handover") {
			return ""
		}
		return "published" + why
	case entry.Attest:
		if e.Reason == evidence.Incident {
			return "" // the step itself is told
		}
		return "evidence of a " + e.Reason
	case entry.Outcome:
		return "the probe" + of + " was answered" + why
	case entry.Erasure:
		return "erased" + of + why
	}
	return ""
}

// brief cuts the hashes of keys among those who acted.
func brief(actors []string) (list []string) {
	for _, a := range actors {
		if len(a) > 48 {
			a = a[:24] + "…"
		}
		list = append(list, a)
	}
	return list
}
