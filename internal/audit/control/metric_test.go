package control_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/control"
)

// TestMetrics counts on the clean world, where one revocation killed two versions a minute later.
func TestMetrics(t *testing.T) {
	w := clean()
	w.evidence.Incidents = []control.Incident{{ID: "i1", Opened: now.Add(-40 * day), Attributed: now.Add(-40*day + 9*time.Second)},
		{ID: "i1", AsOf: now.Add(-39 * day), Contained: now.Add(-40*day + 41*time.Second), Dead: 2, Residual: 90}}
	w.evidence.Reconciliations[0].Strays = 4
	b, o := w.build(t)
	m, err := control.Measure(t.Context(), b, o)
	must(t, err)
	got := map[string]string{}
	for i := range m.List {
		got[m.List[i].ID] = m.List[i].String()
	}
	want := map[string]string{
		"time_to_attribute": "9s", "time_to_revoke_p50": "1m0s", "time_to_revoke_p95": "1m0s", "time_to_revoke_max": "1m0s", "time_to_contain": "41s",
		"residual_credential_seconds": "2m0s", "uses_to_one_live_owner": "100.0 %", "static_share": "100.0 %", "orphans": "0", "duty_violations": "0", "unledgered_uses": "4",
		"incident_credential_seconds": "1m30s",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// Before the estate there is nothing to count.
	o.AsOf = begun.Add(-day)
	if m, err = control.Measure(t.Context(), b, o); err != nil {
		t.Fatal(err)
	}
	for i := range m.List {
		if m.List[i].Value != nil {
			t.Errorf("before the estate: %s is %s", m.List[i].ID, m.List[i].String())
		}
	}
}
