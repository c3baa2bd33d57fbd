package daemon

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/custodian"
	"github.com/reevehq/reeve/internal/statement"
)

// TestOwnersAreTold: each owner with a notify URL gets the break-glass; a redirect is not followed.
func TestOwnersAreTold(t *testing.T) {
	got := make(chan notice, 10)
	told := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		got <- n
	}))
	defer told.Close()
	h := &host{cfg: &Config{ID: "c1", EstateTrust: Trust{Estate: "demo"}}, Custodian: &custodian.Custodian{Parts: custodian.Parts{Log: slog.New(slog.DiscardHandler)}}}
	what := custodian.Notice{Event: "break_glass", Record: "ab", Credential: "research-openai", Waive: []string{"feed"}, Signers: []string{"bea", "cora"}, Reason: "outage"}
	h.notify(what, []*statement.Person{{ID: "ada", Notify: told.URL}, {ID: "bea"}})
	want := notice{"demo", "c1", "ada", what}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	moved := httptest.NewServer(http.RedirectHandler(told.URL, http.StatusTemporaryRedirect))
	defer moved.Close()
	if err := post(moved.URL, []byte("{}")); err == nil {
		t.Error("a redirect counted as told")
	}
	if len(got) != 0 {
		t.Error("a redirect was followed")
	}
}
