package canary

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/secret"
)

// ErrSilent means that nothing arrived at the canary upstream: nothing can be said.
var ErrSilent = errors.New("no request of the probe arrived at the canary upstream, so nothing can be said: have the gateway use it as its provider, and see that it can be reached")

// Plan says how a gateway is probed. The zero values of the last members are filled in.
type Plan struct {
	URL string // of the gateway, such as https://ai.example

	Sent   string       // canary credential that is sent with one request and no other; NewCanary makes one
	Stored []string     // canary credentials that lie where the gateway may read them, and are never sent
	Login  secret.Value // what the gateway itself knows the caller by; empty for nothing

	Header      string        // in which Sent goes: Authorization (with Bearer)
	LoginHeader string        // in which Login goes: X-Gateway-Key
	Path        string        // /v1/chat/completions
	Model       string        // canary
	Calls       int           // without Sent, before and after it: 3
	Wait        time.Duration // after the last call, for what comes late: 5 s
	Client      *http.Client
}

// NewCanary makes a credential that opens nothing.
func NewCanary() string { return bait + rand.Text() }

const bait = "reeve-bait-"

func (p *Plan) fill() error {
	u, err := url.Parse(p.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%q is not the URL of a gateway, such as https://ai.example", p.URL)
	}
	p.Header, p.LoginHeader = cmp.Or(p.Header, "Authorization"), cmp.Or(p.LoginHeader, "X-Gateway-Key")
	p.Path, p.Model = cmp.Or(p.Path, "/v1/chat/completions"), cmp.Or(p.Model, "canary")
	p.Calls, p.Wait = cmp.Or(p.Calls, 3), cmp.Or(p.Wait, 5*time.Second)
	if p.Client == nil {
		p.Client = &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	switch {
	case p.Sent == "" || slices.Contains(p.Stored, p.Sent) || p.login() == p.Sent || slices.Contains(p.Stored, p.login()):
		return errors.New("the canary credential that is sent, those that are stored and the login have to be different ones")
	case p.Calls < 2:
		return errors.New("with fewer than two calls nothing can be told apart")
	case !p.Login.Empty() && strings.EqualFold(p.Header, p.LoginHeader):
		return fmt.Errorf("the canary credential and the login cannot both go in %s", p.Header)
	}
	return nil
}

func (p *Plan) login() string { return string(p.Login.Reveal()) }

// Known is what an upstream has to look for.
func (p *Plan) Known() []string { return append([]string{p.Sent, p.login()}, p.Stored...) }

// call is a request of the probe.
type call struct {
	marker string
	sent   bool // with the canary credential
	ended  time.Time
	err    error // why the gateway did not answer 2xx
}

// Run probes the gateway in front of the upstream. It sends Calls requests without the canary credential, one with it, and Calls without it again, and
// waits for what comes late. The error is ErrSilent when none of its requests arrived, whatever else did.
func Run(ctx context.Context, p Plan, up *Upstream) (*register.Verdict, error) {
	if err := p.fill(); err != nil {
		return nil, err
	}
	v := &register.Verdict{URL: p.URL, Begun: now(), Found: []register.Finding{}, Cannot: []string{}}
	var calls []call
	for i := range 2*p.Calls + 1 {
		c := p.call(ctx, i == p.Calls)
		if calls = append(calls, c); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	select {
	case <-time.After(p.Wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	v.Ended = now()
	j := &judge{plan: &p, calls: calls, arrivals: up.seen(), verdict: v}
	return v, j.judge()
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func (p *Plan) call(ctx context.Context, sent bool) call {
	c := call{marker: markerPrefix + rand.Text(), sent: sent}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.URL, "/")+p.Path, bytes.NewReader(body(p.Path, p.Model, c.marker)))
	if err != nil {
		c.err = err
		return c
	}
	put := func(header, value string) {
		if strings.EqualFold(header, "Authorization") {
			value = "Bearer " + value
		}
		req.Header.Set(header, value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	if !p.Login.Empty() {
		put(p.LoginHeader, p.login())
	}
	if sent {
		put(p.Header, p.Sent)
	}
	resp, err := p.Client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
		if resp.Body.Close(); err == nil && resp.StatusCode > 299 {
			err = errors.New(resp.Status)
		}
	}
	c.ended, c.err = time.Now(), err
	return c
}

// judge holds what arrived against what was sent.
type judge struct {
	plan     *Plan
	calls    []call
	arrivals []arrival
	verdict  *register.Verdict
	found    map[register.Flag][]string
	strange  int // different credentials that are none of the probe's
}

func (j *judge) judge() error {
	j.found = map[register.Flag][]string{}
	if !j.transport() {
		return ErrSilent // whatever came of others
	}
	j.sent()
	j.stored()
	j.unknown()
	for _, f := range register.Flags {
		if why := j.found[f]; len(why) > 0 {
			j.verdict.Found = append(j.verdict.Found, register.Finding{Flag: f, Why: strings.Join(why, "; ")})
		}
	}
	j.unseen()
	j.cannot("A gateway that keeps a credential and does not send it within the probe looks like one that does not keep it.")
	j.cannot("A gateway that reads or makes credentials for other models, routes or callers than the probe's looks like one that does not.")
	j.cannot("A gateway that tells a probe from other callers can behave otherwise for it.")
	j.cannot("Only what reaches the canary upstream was seen: what the gateway sends to others, writes to its logs or shows its staff was not.")
	return nil
}

func (j *judge) find(f register.Flag, format string, args ...any) {
	j.found[f] = append(j.found[f], fmt.Sprintf(format, args...))
}

func (j *judge) cannot(format string, args ...any) {
	j.verdict.Cannot = append(j.verdict.Cannot, fmt.Sprintf(format, args...))
}

// unseen notes what could not have been seen, whatever the gateway does: that a flag was not found says something only if its bait was out, and the
// requests arrived that would have shown it.
func (j *judge) unseen() {
	with := j.arrived(j.calls[j.plan.Calls])
	before, after := j.arrivedOf(j.calls[:j.plan.Calls]), j.arrivedOf(j.calls[j.plan.Calls+1:])
	told := map[register.Flag]bool{
		register.Forward:  with,
		register.Cache:    with && after > 0,
		register.Retrieve: before+after > 0 && len(j.plan.Stored) > 0,
		register.Mint:     before+after > 0 && (j.strange == 0 || before+after > 1), // of one nothing is said of the next
	}
	for _, f := range register.Flags {
		if seen, asked := told[f]; asked && !seen && len(j.found[f]) == 0 {
			j.verdict.Unseen = append(j.verdict.Unseen, f)
		}
	}
	if !with {
		j.cannot("The request with the canary credential did not arrive: whether the gateway sends on or keeps what it is sent was not seen.")
	} else if before > 0 && after == 0 {
		j.cannot("None of its requests after the one with the canary credential arrived: whether it keeps what it is sent was not seen.")
	}
}

func (j *judge) arrived(c call) bool {
	return slices.ContainsFunc(j.arrivals, func(a arrival) bool { return a.marker == c.marker })
}

func (j *judge) arrivedOf(list []call) (n int) {
	for _, c := range list {
		if j.arrived(c) {
			n++
		}
	}
	return n
}

// transport reports whether any request of the probe arrived.
func (j *judge) transport() bool {
	came, bare, refused := 0, 0, ""
	for _, c := range j.calls {
		if j.arrived(c) {
			if came++; !c.sent {
				bare++
			}
		} else if c.err != nil {
			refused = c.err.Error()
		}
	}
	j.find(register.Transport, "%d of %d requests arrived", came, len(j.calls))
	if bare == 0 {
		j.cannot("None of its requests without the canary credential arrived (%s): what it would use by itself, or has kept, was not seen.", cmp.Or(refused, "it answered them itself"))
	}
	return came > 0
}

// sent looks where the canary credential and the login came up.
func (j *judge) sent() {
	with := j.calls[j.plan.Calls]
	own, again := 0, 0
	for _, a := range j.arrivals {
		if slices.Contains(a.credentials, j.plan.login()) && len(j.found[register.Forward]) == 0 {
			j.find(register.Forward, "the login that it was sent arrived at the provider")
		}
		if !slices.Contains(a.credentials, j.plan.Sent) {
			continue
		}
		if a.marker == with.marker && (own == 0 || a.at.Before(with.ended)) {
			own++
			continue
		}
		again++
	}
	if own > 0 {
		j.find(register.Forward, "the canary credential arrived with the request that it was sent with")
	}
	if again > 0 {
		j.find(register.Cache, "the canary credential arrived %d times more without being sent", again)
	}
}

func (j *judge) stored() {
	for _, a := range j.arrivals {
		if slices.ContainsFunc(j.plan.Stored, func(k string) bool { return slices.Contains(a.credentials, k) }) {
			j.find(register.Retrieve, "a canary credential arrived that was stored and never sent")
			return
		}
	}
	if len(j.plan.Stored) == 0 {
		j.cannot("No canary credential was stored where the gateway can read: whether it reads stores is judged only by credentials that nobody knows.")
	}
}

// unknown looks at credentials that are none of the probe's.
func (j *judge) unknown() {
	values := map[string]int{}
	expiring, earlier := 0, 0
	for _, a := range j.arrivals {
		for _, k := range a.credentials {
			if slices.Contains(j.plan.Known(), k) {
				continue
			}
			if strings.HasPrefix(k, bait) {
				earlier++
				continue
			}
			if values[k]++; values[k] == 1 && expires(k) {
				expiring++
			}
		}
	}
	if earlier > 0 {
		j.find(register.Cache, "the canary credential of an earlier probe arrived %d times", earlier)
	}
	j.strange = len(values)
	switch n := len(values); {
	case n == 0:
	case n == 1 && expiring == 0:
		j.find(register.Retrieve, "a credential arrived that was never sent, the same each time")
		j.cannot("One credential that is always the same was read from a store, or made once and kept: it counts as read from a store.")
	case n == 1:
		j.find(register.Retrieve, "a credential arrived that was never sent, the same each time")
		j.find(register.Mint, "it names an end of its own, as credentials do that are made")
		j.cannot("One credential with an end was made a while ago, or read from where another made it: it counts as both.")
	case expiring == n:
		j.find(register.Mint, "%d different credentials arrived that were never sent, each with an end of its own", n)
	default:
		j.find(register.Retrieve, "%d different credentials arrived that were never sent", n)
		j.find(register.Mint, "%d different credentials arrived that were never sent, %d of them with an end of their own", n, expiring)
		j.cannot("Different credentials without a readable end were made for each call, or taken in turn from several in a store: they count as both.")
	}
}

// expires reports whether a credential is a JWT (RFC 7519) that says when it ends.
func expires(k string) bool {
	parts := strings.Split(k, ".")
	if len(parts) != 3 {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Exp json.Number `json:"exp"`
	}
	return err == nil && json.Unmarshal(b, &claims) == nil && claims.Exp != ""
}

// Flags are those that a verdict found, as a record of the register has them.
func Flags(v *register.Verdict) (list []register.Flag) {
	for _, f := range v.Found {
		list = append(list, f.Flag)
	}
	return list
}
