package drill

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/sidecar"
	"github.com/reevehq/reeve/internal/workload"
	"github.com/reevehq/reeve/verify"
)

// signing is research-agent as it signs its requests: the drill itself, as the client of a gateway that is captured.
type signing struct {
	client
	token   string // bound to the signer's key
	another string // as good a token
	signer  *pop.Signer
	nonce   string // newest of the custodian's
}

func (f *field) signing() (*signing, error) {
	key, err := sidecar.ReadKey(demo.AgentKey(f.dir))
	if err != nil {
		return nil, err
	}
	own, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the demo's workload has a key that the drill does not sign with: %T", key)
	}
	s := &signing{client: f.clients[0], nonce: "none"}
	if s.signer, err = pop.NewSigner(own); err != nil {
		return nil, err
	}
	for _, token := range []*string{&s.token, &s.another} {
		now := time.Now()
		if *token, err = sign(own, s.signer.KeyID(), "JWT", map[string]any{
			"iss": estate.AgentIssuer(demo.ID), "sub": estate.AgentIssuer(demo.ID), "aud": estate.AgentAudience(demo.ID),
			"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "jti": rand.Text(), "cnf": map[string]string{"jkt": s.signer.KeyID()},
		}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// signedPath has a query, so that one can be altered. coveredField is one that the signature covers and the upstream gets.
const (
	signedPath   = "/v1/chat/completions?drill=1"
	coveredField = "Openai-Project"
)

// open is a request that the workload signed, as the gateway has it and passes it on. change is what the workload itself signs
// otherwise.
func (s *signing) open(change func(*pop.Request, *pop.Terms)) (hop.Open, error) {
	credential := s.credentials[0]
	r := &pop.Request{Method: http.MethodPost, URL: s.base + signedPath, Body: bytes.Replace(bodyOf(credential), []byte(`"model":"`), []byte(`"model":"openai/`), 1)}
	terms := pop.Terms{Credential: credential, Audience: demo.Processes.Custodian, Nonce: s.nonce}
	if change != nil {
		change(r, &terms)
	}
	header := http.Header{"Content-Type": {"application/json"}, coveredField: {"drill"}, "Authorization": {"Bearer " + s.token}}
	r.Header = header.Values
	if err := s.signer.Sign(r, terms, []string{coveredField}, time.Now(), header.Set); err != nil {
		return hop.Open{}, err
	}
	header.Del("Authorization")
	o := hop.Open{
		RequestID: "drill", Credential: credential, Method: r.Method, Path: signedPath, URL: r.URL, Body: r.Body,
		Proof: workload.Proof{Kind: workload.Pop, Value: []byte(s.token)},
	}
	for name := range header {
		o.Header = append(o.Header, hop.Field{Name: name, Value: header.Get(name)})
	}
	return o, nil
}

// call sends a signed request through the gateway and keeps the nonce of the answer.
func (s *signing) call(ctx context.Context) (status int, err error) {
	o, err := s.open(nil)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, o.Method, o.URL, bytes.NewReader(o.Body))
	if err != nil {
		return 0, err
	}
	for _, h := range o.Header {
		req.Header.Set(h.Name, h.Value)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	s.nonce = resp.Header.Get(pop.FieldNonce)
	return resp.StatusCode, nil
}

// greet has the workload call as it does every day: the first call brings the nonce, the second goes through. Without that a
// refusal would prove nothing.
func (s *signing) greet(ctx context.Context) error {
	if _, err := s.call(ctx); err != nil {
		return err
	}
	if status, err := s.call(ctx); err != nil || status != http.StatusOK {
		return fmt.Errorf("a signed request does not go through (status %d), so that altered ones do not either proves nothing: %w", status, err)
	}
	return nil
}

// attack is what an attacker does with a request that he carries, and how the custodian's ledger must name the refusal.
type attack struct {
	name, reason string
	sign         func(*pop.Request, *pop.Terms) // what the workload had signed
	alter        func(*hop.Open)
}

func setField(o *hop.Open, name, value string) {
	o.Header = append(slices.DeleteFunc(o.Header, func(f hop.Field) bool { return strings.EqualFold(f.Name, name) }), hop.Field{Name: name, Value: value})
}

// alterations are those of everything that a signature covers.
func (s *signing) alterations(other client) []attack {
	path := func(from, to string) func(*hop.Open) {
		return func(o *hop.Open) {
			o.Path = strings.Replace(o.Path, from, to, 1)
			o.URL = s.base + o.Path
		}
	}
	longer := func(o *hop.Open) { o.Body = bytes.Replace(o.Body, []byte(`"drill"`), []byte(`"altered"`), 1) }
	all := []attack{
		{name: "the method", reason: "pop_signature", alter: func(o *hop.Open) { o.Method = http.MethodPut }},
		{name: "the path", reason: "pop_signature", alter: path("chat/completions", "responses")},
		{name: "the query", reason: "pop_signature", alter: path("drill=1", "drill=2")},
		{name: "the body", reason: "pop_digest", alter: longer},
		{name: "the body with its digest", reason: "pop_signature", alter: func(o *hop.Open) { longer(o); setField(o, pop.FieldDigest, pop.Digest(o.Body)) }},
		{name: "the token", reason: "pop_signature", alter: func(o *hop.Open) { o.Proof.Value = []byte(s.another) }},
		{name: "the proof's kind", reason: "proof_unbound", alter: func(o *hop.Open) { o.Proof.Kind = workload.Token }},
		{name: "the signature", reason: "pop_malformed", alter: func(o *hop.Open) { setField(o, pop.FieldSignature, "reeve=::") }},
	}
	for _, credential := range []string{s.credentials[1], other.credentials[0]} {
		all = append(all,
			attack{name: "the credential, to " + credential, reason: "pop_credential", alter: func(o *hop.Open) { o.Credential = credential }},
			attack{name: "the credential in both places, to " + credential, reason: "pop_signature", alter: func(o *hop.Open) {
				o.Credential = credential
				setField(o, pop.FieldCredential, credential)
			}})
	}
	for name, value := range map[string]string{
		coveredField: "altered", "Content-Type": "application/json; charset=utf-8", pop.FieldNonce: "altered", pop.FieldAudience: "altered", pop.FieldFallbacks: s.credentials[1],
	} {
		reason := "pop_signature"
		if name == pop.FieldFallbacks {
			reason = "pop_malformed" // the signature covers none
		}
		all = append(all, attack{name: "the header field " + name, reason: reason, alter: func(o *hop.Open) { setField(o, name, value) }})
	}
	return all
}

// reroutes are requests brought elsewhere than where they were signed for.
func (s *signing) reroutes() []attack {
	return []attack{
		{name: "signed for another custodian", reason: "pop_audience", sign: func(_ *pop.Request, t *pop.Terms) { t.Audience = "c2" }},
		{name: "signed for another gateway", reason: "pop_route", sign: func(r *pop.Request, _ *pop.Terms) { r.URL = "https://elsewhere.example" + signedPath }},
		{name: "signed for another path", reason: "pop_route", sign: func(r *pop.Request, _ *pop.Terms) { r.URL = s.base + "/v1/responses" }},
		{name: "brought to another path", reason: "pop_route", alter: func(o *hop.Open) { o.Path = "/v1/responses" }},
	}
}

// refusal is an answer that an entry of the custodian's ledger must stand behind.
type refusal struct {
	scenario     *Line
	what, reason string
	receipt      string
}

// signedRequests are requests that a workload signed, in the hands of attackers in and beside the gateway that carries them: used again,
// altered, brought elsewhere. Each is refused, and each refusal stands in the custodian's ledger with its reason.
func (f *field) signedRequests(ctx context.Context, r *Report) error {
	s, err := f.signing()
	if err != nil {
		return err
	}
	replayed := Line{ID: "S3", Place: "signed requests, replayed"}
	altered := Line{ID: "S3", Place: "signed requests, altered"}
	rerouted := Line{ID: "S3", Place: "signed requests, re-routed"}
	var all []refusal
	for _, socket := range []string{f.inside(), f.beside()} {
		if err := s.greet(ctx); err != nil {
			return err
		}
		try := func(to *Line, what, reason string, o hop.Open) error {
			time.Sleep(75 * time.Millisecond) // of requests that only claim to be a workload's 20 a second get an entry each
			got, err := order(ctx, socket, Order{Forge: &Forgery{Name: what, Socket: f.dir.Hop(), Open: o, Needles: slices.Concat(f.needles, f.escaped)}})
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			switch a := got.Answer; {
			case reason == "" && a.Refused != "":
				return fmt.Errorf("a signed request is refused as %s: nothing can be said of those that were altered", a.Refused)
			case reason == "":
			case a.Refused == "":
				to.hit(what + " went through")
			default:
				all = append(all, refusal{to, what, reason, a.Receipt})
			}
			return nil
		}
		genuine, err := s.open(nil)
		if err != nil {
			return err
		}
		if err := try(nil, "as it was signed", "", genuine); err != nil {
			return err
		}
		for range 3 {
			if err := try(&replayed, "a request seen before", "replayed", genuine); err != nil {
				return err
			}
		}
		play := func(to *Line, attacks []attack) error {
			for _, a := range attacks {
				o, err := s.open(a.sign)
				if err != nil {
					return err
				}
				if a.alter != nil {
					a.alter(&o)
				}
				if err := try(to, a.name, a.reason, o); err != nil {
					return err
				}
			}
			return nil
		}
		if err := errors.Join(play(&altered, s.alterations(f.clients[1])), play(&rerouted, s.reroutes())); err != nil {
			return err
		}
		if err := s.greet(ctx); err != nil {
			return err
		}
	}
	if err := f.entered(ctx, all, s.workload); err != nil {
		return err
	}
	for _, s := range []*Line{&replayed, &altered, &rerouted} {
		n, reasons := 0, map[string]int{}
		for _, x := range all {
			if x.scenario == s {
				n++
				reasons[x.reason]++
			}
		}
		if s.Detail += fmt.Sprintf("%d refused as %s", n, counts(reasons)); s.Reeve == 0 {
			s.Detail += ", each with its entry"
		}
		r.add(*s)
	}
	return nil
}

// entered finds each refusal's entry in the custodian's published ledger. One that is not there, or says something else, is a hit.
func (f *field) entered(ctx context.Context, all []refusal, who string) error {
	raw, err := os.ReadFile(filepath.Join(f.dir.Path, "trust.json"))
	if err != nil {
		return err
	}
	trust, err := verify.ParseTrust(raw)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(f.dir.Join("tiles", host.Custodian))
	if err != nil {
		return err
	}
	defer root.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, x := range all {
		if x.receipt == "" {
			x.scenario.hit(x.what + " has no entry")
			continue
		}
		found, err := trust.Published(root.FS(), x.receipt)
		for ; errors.Is(err, verify.ErrUndecided) && ctx.Err() == nil; found, err = trust.Published(root.FS(), x.receipt) {
			time.Sleep(100 * time.Millisecond) // it is published within a second
		}
		switch {
		case err != nil:
			x.scenario.hit(fmt.Sprintf("%s: %v", x.what, err))
		case found.Entry.Type != entry.Deny || found.Entry.Reason != x.reason || found.Entry.Workload != who:
			x.scenario.hit(fmt.Sprintf("%s is entered as %s %s of %q, not as %s", x.what, found.Entry.Type, found.Entry.Reason, found.Entry.Workload, x.reason))
		}
	}
	return nil
}

// hit counts what should not have been.
func (s *Line) hit(what string) {
	s.Reeve++
	if s.Detail != "" && !strings.HasSuffix(s.Detail, "; ") {
		s.Detail += "; "
	}
	s.Detail += what + "; "
}
