package dispatch

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/verify"
)

// A channel has a record when it answers so: not when it sends it on elsewhere, and what it says against it reaches people.
func TestPost(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string // "": taken
	}{
		"taken":   {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) }, ""},
		"refused": {func(w http.ResponseWriter, r *http.Request) { http.Error(w, "nobody signed it", http.StatusForbidden) }, "nobody signed it"},
		"sent on": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "307"},
		"it hangs": {func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/records" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				if name != "it hangs" {
					b, _ := io.ReadAll(r.Body)
					got <- string(b)
				}
				c.answer(w, r)
			}))
			defer srv.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if name == "it hangs" {
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
			}
			err := Post("authority", srv.URL+"/v1/records").Send(ctx, []byte("a record"))
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if name != "it hangs" && <-got != "a record" {
				t.Error("another body was sent")
			}
		})
	}
}

// A log that an auditor serves is read file by file; one that is not there is told from an auditor that fails.
func TestRemote(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/logs/c1/checkpoint":
			io.WriteString(w, "reeve/demo/c1\n")
		case "/logs/c1/broken":
			http.Error(w, "no", http.StatusInternalServerError)
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	dir := Remote(srv.URL + "/logs/c1/")
	if b, err := fs.ReadFile(dir, "checkpoint"); err != nil || string(b) != "reeve/demo/c1\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := fs.ReadFile(dir, "tile/0/000"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := fs.ReadFile(dir, "broken"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, name := range []string{"../c2/checkpoint", "/etc/passwd", ""} {
		if _, err := dir.Open(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What cannot be read is never counted as done, whatever the channels say; only those whom the record concerns are waited for.
func TestNothingIsKnownWithoutAnEntry(t *testing.T) {
	d := New(&Order{Custodians: []string{"c1", "c2"}, Trust: new(verify.Trust), Wait: 100 * time.Millisecond,
		Channels: []Channel{{Name: "admin", Send: func(context.Context, []byte) error { return nil }}}})
	d.Only(func(id string) bool { return id == "c2" })
	r := d.Run(t.Context(), sha256.Sum256([]byte("x")), []byte("a record"))
	if r.All() || len(r.Custodians) != 1 || r.Custodians[0].ID != "c2" || r.Custodians[0].Error == "" {
		t.Errorf("%+v", r)
	}
	if len(r.Sent) != 1 || r.Sent[0].Error != "" || r.Sent[0].Channel != "admin" {
		t.Errorf("%+v", r.Sent)
	}
	if (&Report{}).All() {
		t.Error("nobody is everybody")
	}
}
