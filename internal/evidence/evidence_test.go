package evidence

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// What is anchored lies in the store and goes to the first authority that takes it; without one it waits, and is sent again until a ledger has it.
func TestAnchor(t *testing.T) {
	e := estatetest.New(t)
	var taken []string
	away := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		env, err := statement.ParseEnvelope(b)
		if err != nil || away || r.URL.Path != "/v1/records" {
			http.Error(w, "standing by", http.StatusServiceUnavailable)
			return
		}
		taken = append(taken, name(env))
	}))
	defer srv.Close()
	to := Place{e.Dir, []string{"http://127.0.0.1:1", srv.URL}}
	first, err := Anchor(t.Context(), to, e.Set, Drill, "S1", []byte("result"), e.Bea)
	if err != nil || !strings.Contains(first.Waits, "standing by") || !strings.Contains(first.Waits, "127.0.0.1:1") {
		t.Fatalf("%+v: %v", first, err)
	}
	away = false
	second, err := Anchor(t.Context(), to, e.Set, Incident, "inc-1", []byte("opened"), e.Ada)
	if err != nil || second.Waits != "" || len(taken) != 1 || taken[0] != second.Record {
		t.Fatalf("%+v: %v, taken %q", second, err, taken)
	}
	kept, err := Read(e.Dir.Store())
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v: %v", kept, err)
	}
	sent, err := Again(context.Background(), to, func(record string) bool { return record == second.Record })
	if err != nil || len(sent) != 1 || sent[0].Record != first.Record || sent[0].Waits != "" || taken[1] != first.Record {
		t.Fatalf("%+v: %v, taken %q", sent, err, taken)
	}
	if _, err := Anchor(t.Context(), to, e.Set, "a\nb", "S1", nil, e.Bea); err == nil {
		t.Error("a kind with a line was taken")
	}
	from := filepath.Join(e.Dir.Signed(), "records/evidence", first.Record+".json")
	if err := os.Rename(from, filepath.Join(filepath.Dir(from), second.Record+".json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(e.Dir.Store()); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("a record in another's place: %v", err)
	}
}
