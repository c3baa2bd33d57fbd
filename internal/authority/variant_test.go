package authority

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/internal/statement"
)

// TestVariants: a record with a signature that says nothing is refused at the door, and another spelling of a record that is published
// is no other record: nothing is kept, entered or sent.
func TestVariants(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	file := r.revocation(t, 1)
	env, _, err := feed.ParseRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	env.Signatures = append(env.Signatures, statement.Signature{KeyID: "zzz", Sig: make([]byte, 64)})
	variant, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Take(&feed.Frame{Record: variant}, "post"); !errors.Is(err, statement.ErrRefused) {
		t.Errorf("a signature by nobody of the charter: %v", err)
	}
	if _, err := r.Take(&feed.Frame{Record: file}, "post"); err != nil {
		t.Fatal(err)
	}
	before := r.Status()
	if _, err := r.Take(&feed.Frame{Record: variant}, "post"); err != nil {
		t.Errorf("once more: %v", err)
	}
	after := r.Status()
	if after.Records != before.Records || after.Sum != before.Sum {
		t.Errorf("%+v after %+v", after, before)
	}
}

// TestPostsArePaced: who posts without end is told to wait before anything is verified, and holds up no other kind.
func TestPostsArePaced(t *testing.T) {
	r, _ := signalRig(t)
	paces := map[string]**serve.Pace{"POST /v1/records": &r.posts, "POST /v1/signals": &r.signals, "DELETE /scim/v2/Users/u-2": &r.changes}
	for name := range paces {
		for other, p := range paces {
			if *p = serve.NewPace(paceStep, paceBurst); other == name {
				*p = spent()
			}
		}
		for other := range paces {
			method, path, _ := strings.Cut(other, " ")
			req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/secevent+jwt")
			req.Header.Set("Authorization", "Bearer a-token-of-the-scim-client")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got, want := resp.StatusCode == 503, other == name; got != want {
				t.Errorf("%s while %s is at its pace: %s", other, name, resp.Status)
			}
		}
	}
}

// spent is a pace that allows nothing for an hour.
func spent() *serve.Pace {
	p := serve.NewPace(time.Hour, 1)
	p.Allows("", time.Now())
	return p
}

// TestRequestsAreBounded: a stranger that announces a body and sends none, or does not read its answer, is not waited for, whatever it asks for.
func TestRequestsAreBounded(t *testing.T) {
	r, _ := signalRig(t)
	for route := range r.routes() {
		method, path, _ := strings.Cut(route, " ")
		req := httptest.NewRequest(method, strings.ReplaceAll(path, "{id}", "x"), strings.NewReader("{}"))
		w := &bounded{ResponseRecorder: httptest.NewRecorder()}
		r.Handler().ServeHTTP(w, req)
		if w.read.IsZero() || w.write.IsZero() {
			t.Errorf("%s: reads until %v, writes until %v", route, w.read, w.write)
		}
	}
}

// bounded notes deadlines.
type bounded struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (b *bounded) SetReadDeadline(t time.Time) error  { b.read = t; return nil }
func (b *bounded) SetWriteDeadline(t time.Time) error { b.write = t; return nil }
