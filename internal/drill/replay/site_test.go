// Package replay plays what happened to others again, on an estate with the real processes, and holds the incident's report against what the
// attacker did.
package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/incident"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/drill"
	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/up"
	"github.com/reevehq/reeve/internal/workload"
)

// site is an estate that runs.
type site struct {
	*testing.T
	ctx     context.Context
	dir     *host.Dir
	bin     string
	pids    map[string]int
	needles []loot.Needle     // the upstream's keys, which only this test has all of
	keys    map[string]string // of workloads
	url     string            // the gateway's
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start makes an estate whose upstream keys the test knows, runs it, and plays on it. With captured, the gateway has an attacker in it.
func start(t *testing.T, captured bool, play func(*site)) {
	base, err := os.MkdirTemp("/tmp", "reeve-replay-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	bin := filepath.Join(base, "bin")
	must(t, errors.Join(os.Chmod(base, 0o755), os.Mkdir(bin, 0o755)))
	build := exec.Command("go", "build", "-o", bin, "./cmd/...")
	build.Dir, build.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the binaries: %v\n%s", err, out)
	}
	programs, err := filepath.Glob(filepath.Join(bin, "*"))
	must(t, err)
	for _, p := range append(programs, bin) { // whatever umask an estate before has left here
		must(t, os.Chmod(p, 0o755))
	}
	d, err := host.Create(filepath.Join(base, "estate"), bin, true, 0)
	must(t, err)
	t.Cleanup(func() {
		if d.State != d.Path {
			os.RemoveAll(d.State)
		}
	})
	s := &site{T: t, bin: bin, keys: map[string]string{}}
	must(t, demo.Create(d, time.Now(), func(credential string) secret.Value {
		key := demo.RandomKey(credential)
		s.needles = append(s.needles, loot.Needles(credential, bytes.Clone(key.Reveal()))...)
		return key
	}, func(p *estate.Plan) { // the authority alone may vouch for one of the two
		for i := range p.Charter.Workloads {
			if w := &p.Charter.Workloads[i]; w.ID == "support-agent" {
				w.Identities = append(w.Identities, statement.Identity{Issuer: statement.IssuerAuthority})
			}
		}
	}))
	o := up.Options{Dir: d.Path, Bin: bin, Out: io.Discard, Now: time.Now, Then: func(ctx context.Context, d *host.Dir, pids map[string]int) error {
		s.ctx, s.dir, s.pids = ctx, d, pids
		s.url = "http://" + host.Local(d.Run.Ports.Gateway)
		for _, w := range []string{"research-agent", "support-agent"} {
			text, err := os.ReadFile(demo.EnvFile(d, w))
			if err != nil {
				return err
			}
			_, key, _ := strings.Cut(string(text), "REEVE_KEY=")
			s.keys[w], _, _ = strings.Cut(key, "\n")
		}
		play(s)
		return nil
	}}
	if captured {
		o.Command = func(x up.Spec) up.Spec {
			if x.Name == host.Gateway {
				x.Path, x.Args = filepath.Join(bin, "reeve"), append([]string{"drill", "captured"}, x.Args...)
			}
			return x
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { // play may end this goroutine by FailNow
		err := errors.New("the play ended early")
		defer func() { done <- err }()
		err = up.Run(ctx, o)
	}()
	must(t, <-done)
}

// reeve runs the command line, and wants its exit status.
func (s *site) reeve(status int, args ...string) string {
	s.Helper()
	cmd := exec.CommandContext(s.ctx, filepath.Join(s.bin, "reeve"), append([]string{"--dir", s.dir.Path}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		s.Fatalf("reeve %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), got, status, out.Bytes(), errs.Bytes())
	}
	return out.String()
}

// paths are what each dialect's plainest call is.
func call(credential string) (path, body string) {
	if strings.HasSuffix(credential, "anthropic") {
		return "/v1/messages", `{"model":"anthropic/demo-claude","max_tokens":5,"messages":[{"role":"user","content":"x"}]}`
	}
	return "/v1/chat/completions", `{"model":"openai/demo-small","messages":[{"role":"user","content":"x"}]}`
}

// call calls the gateway, as whoever has the key or token can. The receipt is empty where nothing was entered.
func (s *site) call(key, credential string) (status int, receipt string) {
	s.Helper()
	path, body := call(credential)
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.url+path, strings.NewReader(body))
	must(s.T, err)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	resp, err := http.DefaultClient.Do(req)
	must(s.T, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	must(s.T, err)
	return resp.StatusCode, resp.Header.Get("Reeve-Receipt")
}

// signed makes a call that research-agent's own program signs.
func (s *site) signed() {
	s.Helper()
	path, body := call("research-openai")
	out := s.reeve(0, "exec", "--", "sh", "-c", `curl -s -o /dev/null -w '%{http_code}' "$REEVE_URL`+path+`" -H "Authorization: Bearer $REEVE_KEY" -H 'Content-Type: application/json' -d '`+body+`'`)
	if out != "200" {
		s.Fatalf("a signed call: %s", out)
	}
}

// tell orders the attacker in the gateway to do something.
func (s *site) tell(o drill.Order) drill.Taken {
	s.Helper()
	c, err := (&net.Dialer{}).DialContext(s.ctx, "unix", s.dir.Join(host.Gateway, "captured.sock"))
	must(s.T, err)
	defer c.Close()
	must(s.T, c.SetDeadline(time.Now().Add(2*time.Minute)))
	must(s.T, json.NewEncoder(c).Encode(o))
	var got drill.Taken
	must(s.T, json.NewDecoder(c).Decode(&got))
	if got.Error != "" {
		s.Fatalf("the attacker failed: %s", got.Error)
	}
	return got
}

// forge has the attacker in the gateway make a call of his choosing.
func (s *site) forge(key, credential string) *drill.Answer {
	s.Helper()
	path, body := call(credential)
	body = strings.NewReplacer("openai/", "", "anthropic/", "").Replace(body)
	header := []hop.Field{{Name: "Content-Type", Value: "application/json"}}
	if strings.HasSuffix(credential, "anthropic") {
		header = append(header, hop.Field{Name: "Anthropic-Version", Value: "2023-06-01"})
	}
	return s.tell(drill.Order{Forge: &drill.Forgery{Name: "of his choosing", Socket: s.dir.Hop(), Needles: s.needles, Open: hop.Open{
		Credential: credential, Method: http.MethodPost, Path: path, URL: "http://reeve" + path, RequestID: "replay", Header: header, Body: []byte(body),
		Proof: workload.Proof{Kind: "bearer", Value: []byte(key)},
	}}}).Answer
}

// entryOf is the entry that a receipt promises.
func entryOf(t *testing.T, receipt string) control.Ref {
	t.Helper()
	parts := strings.Split(receipt, ".")
	if len(parts) < 3 {
		t.Fatalf("no receipt: %q", receipt)
	}
	seq, err := strconv.ParseInt(parts[2], 10, 64)
	must(t, err)
	return control.Ref{Log: parts[1], Seq: seq}
}

// report makes the incident's report until it says what is waited for: the auditor is a second behind.
func (s *site) report(id string, status int, until func(*incident.Report) bool, more ...string) *incident.Report {
	s.Helper()
	folder := s.TempDir()
	file := filepath.Join(folder, "report.json")
	var r *incident.Report
	for range 300 {
		cmd := exec.CommandContext(s.ctx, filepath.Join(s.bin, "reeve"), "incident", "report", id, "--json", file, "--dir", s.dir.Path)
		out, _ := cmd.CombinedOutput() // what it exits with is asked below
		if text, err := os.ReadFile(file); err == nil {
			r = new(incident.Report)
			must(s.T, json.Unmarshal(text, r))
			if until(r) {
				break
			}
		} else if s.ctx.Err() != nil {
			s.Fatalf("no report: %s", out)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if r == nil {
		s.Fatal("no report was made")
	}
	if !until(r) {
		s.Fatalf("the report never said it: %s", cmp.Diff("", strings.Join(r.Answer, "\n")))
	}
	s.Log(s.reeve(status, append([]string{"incident", "report", id, "--json", file}, more...)...))
	text, err := os.ReadFile(file)
	must(s.T, err)
	r = new(incident.Report)
	must(s.T, json.Unmarshal(text, r))
	return r
}

// now is an instant between what was before and what comes: the ledgers' clock is this one.
func now() string {
	time.Sleep(2 * time.Millisecond)
	defer time.Sleep(2 * time.Millisecond)
	return time.Now().UTC().Format(time.RFC3339Nano)
}

// contained is what reeve contain said.
type contained struct {
	Begun, Denied time.Time
	Contained     bool
}

func (s *site) contain(args ...string) (c contained) {
	s.Helper()
	must(s.T, json.Unmarshal([]byte(s.reeve(0, append([]string{"contain", "--json"}, args...)...)), &c))
	if !c.Contained || c.Denied.IsZero() {
		s.Fatalf("%+v", c)
	}
	return c
}

// opened is when the incident was opened, by its own journal.
func (s *site) opened(id string) time.Time {
	s.Helper()
	var j struct{ Steps []struct{ Time time.Time } }
	must(s.T, json.Unmarshal([]byte(s.reeve(0, "incident", "show", id, "--json")), &j))
	return j.Steps[0].Time
}

// about fails unless the report's time to contain is that from the opening, or the first record if that was earlier, to the last denial.
func (s *site) about(r *incident.Report, opened time.Time, c contained) {
	s.Helper()
	from := opened
	if c.Begun.Before(from) {
		from = c.Begun
	}
	if want := c.Denied.Sub(from).Seconds(); fmt.Sprintf("%.3f", want) != fmt.Sprintf("%.3f", r.Containment.Contain) || want < 0 {
		s.Errorf("time to contain %v, want %v", r.Containment.Contain, want)
	}
	if !r.Containment.Contained.Equal(c.Denied) || r.Containment.AfterUses != 0 {
		s.Errorf("%+v, contained %s", r.Containment, c.Denied)
	}
}
