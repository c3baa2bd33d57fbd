package drill

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/up"
)

// The bounds of S8. fuse is how old the oldest entry without a witness may be (docs/architecture.md).
const (
	fuse  = 30 * time.Second
	grace = 20 * time.Second // that a bound may be missed by on a loaded machine
	spell = 5 * time.Second  // that a call may hang
)

// s8 is the witness, the authority and the custodian away: hanging, as after a partition, and killed.
func (f *field) s8(ctx context.Context, r *Report, _ *doubled) error {
	f.say("S8: the auditor, the authority and the custodian hang, and the custodian is killed.")
	defer f.resume()
	c, err := f.keyed(ctx, time.Hour)
	if err != nil {
		return err
	}
	if err := f.goesOn(ctx, c); err != nil {
		return err
	}
	reached, err := f.reachedUpstream()
	if err != nil {
		return err
	}
	if err := f.copied(ctx); err != nil {
		return err
	}
	intents := 0
	if err := f.each(func(e *entry.Entry) { intents += count(e) }); err != nil {
		return err
	}
	for _, step := range []func(context.Context, *Report, client) error{f.quietAuthority, f.noWitness, f.hungCustodian, f.killedCustodian} {
		if err := step(ctx, r, c); err != nil {
			return err
		}
	}
	return f.accounted(ctx, r, reached, intents)
}

// count is 1 for an entry that comes before a use.
func count(e *entry.Entry) int {
	if e.Type == entry.Intent {
		return 1
	}
	return 0
}

// reachedUpstream counts the uses that arrived at the upstream.
func (f *field) reachedUpstream() (int, error) {
	b, err := os.ReadFile(f.dir.Join(host.Upstream, "seen.jsonl"))
	if err != nil {
		return 0, err
	}
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if bytes.Contains(s.Bytes(), []byte(`"path":"/v1/`)) && !bytes.Contains(s.Bytes(), []byte("/oauth/")) {
			n++
		}
	}
	return n, nil
}

// hold stops a process where it is: nothing of it answers, and its connections stay open, as after a partition.
func (f *field) hold(process string) error {
	return syscall.Kill(f.pids[process], syscall.SIGSTOP)
}

func (f *field) release(process string) error {
	return syscall.Kill(f.pids[process], syscall.SIGCONT)
}

// resume lets every process go on.
func (f *field) resume() {
	for _, p := range []string{host.Auditor, host.Authority, host.Custodian} {
		f.release(p) // it may have ended
	}
}

// try makes one call that may hang for a spell only, and returns the code of its refusal.
func (f *field) try(ctx context.Context, c client) (through bool, code string) {
	ctx, cancel := context.WithTimeout(ctx, spell)
	defer cancel()
	resp, err := c.do(ctx, c.credentials[0], bytes.Replace(bodyOf(c.credentials[0]), []byte(`"model":"`), []byte(`"model":"openai/`), 1), nil)
	if err != nil {
		return false, "no answer"
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK, refusalCode(resp)
}

// goesOn waits until calls go through.
func (f *field) goesOn(ctx context.Context, c client) error {
	_, _, err := f.until(ctx, c, true, fuse+grace)
	return err
}

// until waits until calls go through, or are refused, and returns how long that took and with which code. That none is refused in time is no
// error: it has no code.
func (f *field) until(ctx context.Context, c client, through bool, within time.Duration) (time.Duration, string, error) {
	begun, last := time.Now(), ""
	for time.Since(begun) < within {
		got, code := f.try(ctx, c)
		if got == through {
			return time.Since(begun), code, nil
		}
		last = code
		time.Sleep(50 * time.Millisecond)
	}
	if through {
		return 0, last, fmt.Errorf("uses do not go on within %s: %s", within, last)
	}
	return within, "", nil
}

// quietAuthority is a custodian without news of revocations: uses stop at the charter's bound, and closing does not wait.
func (f *field) quietAuthority(ctx context.Context, r *Report, c client) error {
	if err := f.hold(host.Authority); err != nil {
		return err
	}
	s := Line{ID: "S8", Place: "no news of revocations"}
	if ok, code := f.try(ctx, c); !ok {
		return fmt.Errorf("uses stop at once when the authority is silent (%s): that they stop proves nothing", code)
	}
	took, code, err := f.until(ctx, c, false, newsBound+grace)
	if err != nil {
		return err
	}
	if code == "" {
		s.hit(fmt.Sprintf("uses go on %s after the last news, and the bound is %s", took.Round(time.Second), newsBound))
	}
	r.measure("without_news_ms", took.Milliseconds())
	s.Detail += fmt.Sprintf("uses went on, and stopped after %s (%s)", took.Round(time.Millisecond), code)
	r.add(s)
	r.add(f.closes(ctx, "closing without the authority", "drill-closed-1"))
	if err := f.release(host.Authority); err != nil {
		return err
	}
	return f.goesOn(ctx, c)
}

// noWitness is a ledger that nobody cosigns.
func (f *field) noWitness(ctx context.Context, r *Report, c client) error {
	if err := f.hold(host.Auditor); err != nil {
		return err
	}
	s := Line{ID: "S8", Place: "no witness of the ledger"}
	if ok, code := f.try(ctx, c); !ok {
		return fmt.Errorf("uses stop at once without a witness (%s): that they stop proves nothing", code)
	}
	took, code, err := f.until(ctx, c, false, fuse+grace)
	if err != nil {
		return err
	}
	if code == "" {
		s.hit(fmt.Sprintf("uses go on %s after the last cosignature", took.Round(time.Second)))
	}
	r.measure("without_witness_ms", took.Milliseconds())
	s.Detail += fmt.Sprintf("uses went on, and stopped after %s (%s)", took.Round(time.Millisecond), code)
	r.add(s)
	r.add(f.closes(ctx, "closing without a witness", "drill-closed-2"))
	if err := f.release(host.Auditor); err != nil {
		return err
	}
	return f.goesOn(ctx, c)
}

// closes freezes something that nobody uses and looks whether it is in force.
func (f *field) closes(ctx context.Context, place, id string) Line {
	s := Line{ID: "S8", Place: place}
	begun := time.Now()
	target := statement.Target{Kind: "token", ID: id} // nobody uses it
	if _, err := f.admin().Freeze(ctx, target, "drill"); err != nil {
		s.hit(err.Error())
		return s
	}
	if st, err := f.admin().Status(ctx); err != nil || !closedIn(st, target) {
		s.hit("it is not in force")
		return s
	}
	s.Detail = "in force after " + time.Since(begun).Round(time.Millisecond).String()
	return s
}

func closedIn(st *admin.Status, target statement.Target) bool {
	return slices.ContainsFunc(st.Closed, func(c admin.Closed) bool { return c.Target == target })
}

// hungCustodian is a partition between gateway and custodian.
func (f *field) hungCustodian(ctx context.Context, r *Report, c client) error {
	if err := f.hold(host.Custodian); err != nil {
		return err
	}
	s := Line{ID: "S8", Place: "a custodian that hangs"}
	before, err := f.settledUpstream()
	if err != nil {
		return err
	}
	for range 2 {
		if ok, _ := f.try(ctx, c); ok {
			s.hit("a use went through without it")
		}
	}
	after, err := f.reachedUpstream()
	if err != nil {
		return err
	}
	if s.Detail += fmt.Sprintf("no use in %s, and %d requests at the upstream", 2*spell, after-before); after > before {
		s.hit("requests at the upstream")
	}
	r.add(s)
	if err := f.release(host.Custodian); err != nil {
		return err
	}
	return f.goesOn(ctx, c)
}

// settledUpstream is reachedUpstream once nothing has come for half a second: what was sent before the custodian hung may arrive a moment later.
func (f *field) settledUpstream() (n int, err error) {
	for last := -1; n != last && err == nil; {
		last = n
		time.Sleep(500 * time.Millisecond)
		n, err = f.reachedUpstream()
	}
	return n, err
}

// killedCustodian is a custodian killed amid uses, and started again: what was closed is closed still.
func (f *field) killedCustodian(ctx context.Context, r *Report, c client) error {
	s := Line{ID: "S8", Place: "a custodian that is killed"}
	if err := syscall.Kill(f.pids[host.Custodian], syscall.SIGKILL); err != nil {
		return err
	}
	begun := time.Now()
	ok, code := f.try(ctx, c)
	for ok && time.Since(begun) < spell { // one that was under way
		ok, code = f.try(ctx, c)
	}
	if ok {
		s.hit("uses go through without it")
	}
	s.Detail += fmt.Sprintf("refused (%s) after %s", code, time.Since(begun).Round(time.Millisecond))
	child, err := up.NewSpawner().Start(f.specs[host.Custodian])
	if err != nil {
		return err
	}
	f.restarted = append(f.restarted, child)
	f.pids[host.Custodian] = child.PID
	took, _, err := f.until(ctx, c, true, fuse+grace)
	if err != nil {
		return err
	}
	r.measure("restarted_ms", took.Milliseconds())
	s.Detail += fmt.Sprintf("; uses go on %s after its start", took.Round(time.Millisecond))
	st, err := f.admin().Status(ctx)
	if err != nil {
		return err
	}
	for _, id := range []string{"drill-closed-1", "drill-closed-2"} {
		if !closedIn(st, statement.Target{Kind: "token", ID: id}) {
			s.hit(id + " is open again")
		}
	}
	r.add(s)
	return nil
}

// accounted holds what arrived at the upstream meanwhile against the ledger.
func (f *field) accounted(ctx context.Context, r *Report, reached, intents int) error {
	now, err := f.reachedUpstream()
	if err != nil {
		return err
	}
	if err := f.copied(ctx); err != nil {
		return err
	}
	arrived, entered := now-reached, -intents
	if err := f.each(func(e *entry.Entry) { entered += count(e) }); err != nil {
		return err
	}
	s := Line{ID: "S8", Place: "uses meanwhile", Detail: fmt.Sprintf("%d arrived at the upstream, %d entered before", arrived, entered)}
	if arrived > entered {
		s.hit(fmt.Sprintf("%d without an entry", arrived-entered))
	}
	if arrived == 0 {
		return fmt.Errorf("no use arrived at the upstream meanwhile: nothing can be said of their entries")
	}
	r.measure("uses_arrived_count", int64(arrived))
	r.add(s)
	return nil
}

// refusalCode is the code of an answer that is no good one.
func refusalCode(resp *http.Response) string {
	var said struct {
		Error struct {
			Code string `json:"code"`
			Type string `json:"type"`
		} `json:"error"`
	}
	if resp.StatusCode == http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&said) != nil {
		return ""
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, cmp.Or(said.Error.Code, said.Error.Type))
}
