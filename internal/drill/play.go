package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// play goes through the chosen scenarios.
func (f *field) play(ctx context.Context, r *Report) error {
	if err := f.findClients(); err != nil {
		return err
	}
	if _, err := os.Stat(f.dir.Join(host.Custodian, identity)); err != nil {
		return fmt.Errorf("the drill does not know where the custodian's identity lies: %w", err)
	}
	f.say("Making %d calls through reeve.", f.Calls)
	if err := f.callThrough(ctx, f.clients, f.Calls); err != nil {
		return err
	}
	var err error
	if r.Level, err = f.level(ctx); err != nil {
		return err
	}
	f.say("Making %d calls through the double.", f.Calls)
	d, err := f.startDouble(ctx)
	if err != nil {
		return err
	}
	defer d.stop()
	if err := f.callThrough(ctx, d.clients, f.Calls); err != nil {
		return err
	}
	bare, err := f.startBare(ctx)
	if err != nil {
		return err
	}
	defer bare.stop()
	for _, c := range f.chosen {
		begun := time.Now()
		if err := c.play(f, ctx, r, d); err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		r.end(c.Scenario, time.Since(begun))
	}
	r.sort()
	return nil
}

// identity is the file with the key that opens the sealed secrets.
const identity = "identity.age"

// places are those of S1, in the order of the report.
func places() []string { return []string{"memory", "environment", "files", "descriptors", "sockets"} }

// target is what an attacker in the gateway's place goes through. self is the gateway's pid as the attacker sees it.
func (f *field) target(self int) *loot.Target {
	t := &loot.Target{
		PIDs: []int{self, f.pids[host.Custodian], f.pids[host.Authority], f.pids[host.Auditor]},
		// The gateway's own folders are named too: what is above them may be closed to it.
		Dirs:    []string{f.dir.Path, f.dir.Join(host.Gateway), f.dir.Join("tiles", host.Gateway), f.dir.Sockets, "/var/crash", "/var/lib/systemd/coredump"},
		Doors:   []string{f.dir.Join(host.Custodian, identity)},
		Needles: f.needles,
	}
	if f.dir.State != f.dir.Path {
		t.Dirs = append(t.Dirs, f.dir.State)
	}
	t.Sockets = loot.SocketsBelow(f.dir.Sockets)
	return t
}

// s1 is code execution as the gateway: inside its process, and beside it as its user.
func (f *field) s1(ctx context.Context, r *Report, d *doubled) error {
	f.say("S1: an attacker in the gateway's process, and one beside it, look for the keys.")
	for _, a := range []struct {
		name, socket string
		self         int
		double       string
		doubleSelf   int
	}{
		{"in the gateway", f.inside(), 0, d.inside, 0},
		{"beside the gateway", f.beside(), f.pids[host.Gateway], f.beside(), d.pid},
	} {
		got, err := order(ctx, a.socket, Order{Search: f.target(a.self)})
		if err != nil {
			return err
		}
		twin, err := order(ctx, a.double, Order{Search: &loot.Target{PIDs: []int{a.doubleSelf}, Dirs: []string{d.dir}, Needles: f.needles}})
		if err != nil {
			return err
		}
		for _, place := range places() {
			r.add(f.judge(r, a.name, place, got.Survey, twin.Survey))
		}
		if got.Survey.Read["memory"] == 0 && a.self == 0 {
			return fmt.Errorf("the attacker %s could not read its own memory: nothing can be said of it", a.name)
		}
	}
	return nil
}

// judge makes one line of S1. At a level where the gateway's user is the custodian's, a bare process of that user can open the
// custodian's files: that is not defended, and said so.
func (f *field) judge(r *Report, who, place string, got, twin *loot.Survey) Line {
	s := Line{
		ID: "S1", Place: place + ", " + who, Reeve: got.Count(place), Double: twin.Count(place),
		Detail: fmt.Sprintf("%d read, %d refused", got.Read[place], got.Denied[place]),
	}
	for _, h := range got.Hits {
		if h.Place == place {
			s.Detail += fmt.Sprintf("; %s of %s at %s", h.Form, h.Secret, h.Where)
			break
		}
	}
	if s.Reeve > 0 && sameUser(r.Level) && who == "beside the gateway" {
		s.NotHeld, s.Reeve = true, 0
		r.NotHeld = append(r.NotHeld, fmt.Sprintf("at level %s a bare process of the gateway's user reaches the custodian's %s: use separate users (start as root) or another host", r.Level, place))
	}
	return s
}

// sameUser reports whether gateway and custodian have one user at an isolation level.
func sameUser(level string) bool { return level == "one-uid" || level == "none" }

// forgeries are calls that nobody may make. Each is tried for every credential of every unit.
func (f *field) forgeries(c string, own, other client) []Forgery {
	good := hop.Open{
		Credential: c, Method: "POST", Path: pathOf(c), URL: "http://reeve" + pathOf(c), RequestID: "drill",
		Header: headerOf(c), Body: bodyOf(c),
		Proof: workload.Proof{Kind: "bearer", Value: []byte(own.key)},
	}
	forge := func(name string, change func(*hop.Open)) Forgery {
		o := good
		o.Header = slices.Clone(good.Header)
		change(&o)
		return Forgery{Name: name, Socket: f.dir.Hop(), Open: o, Needles: slices.Concat(f.needles, f.escaped)}
	}
	proof := func(kind, value string) func(*hop.Open) {
		return func(o *hop.Open) { o.Proof = workload.Proof{Kind: kind, Value: []byte(value)} }
	}
	path := func(p string) func(*hop.Open) { return func(o *hop.Open) { o.Path = p } }
	method := func(m string) func(*hop.Open) { return func(o *hop.Open) { o.Method = m } }
	body := func(b string) func(*hop.Open) { return func(o *hop.Open) { o.Body = []byte(b) } }
	all := []Forgery{
		forge("no proof", proof("bearer", "")),
		forge("an invented key", proof("bearer", "rv_"+strings.Repeat("a", len(own.key)-3))),
		forge("a key with one character changed", proof("bearer", flip(own.key))),
		forge("an unknown kind of proof", proof("trusted", own.key)),
		forge("another unit's workload", proof("bearer", other.key)),
		forge("a credential that is not there", func(o *hop.Open) { o.Credential = c + "-x" }),
		forge("no credential", func(o *hop.Open) { o.Credential = "" }),
		forge("a path that issues secrets", path("/v1/organization/admin_api_keys")),
		forge("another provider path", path("/v1/files")),
		forge("a path that climbs", path(pathOf(c)+"/../../v1/files")),
		forge("a path that climbs encoded", path(pathOf(c)+"/%2e%2e/files")),
		forge("a path with a double slash", path("/"+pathOf(c))),
		forge("a path with a parameter", path(pathOf(c)+";x=y")),
		forge("an absolute target", path("https://127.0.0.1:9/v1/chat/completions")),
		forge("a fragment", path(pathOf(c)+"#x")),
		forge("a header that ends early", func(o *hop.Open) {
			o.Header = append(o.Header, hop.Field{Name: "X-A", Value: "b\r\nAuthorization: none"})
		}),
		forge("a model twice", body(`{"model":"demo-small","model":"demo-large"}`)),
		forge("something after the body", body(string(bodyOf(c))+"{}")),
		forge("more tokens than policy permits", body(`{"model":"demo-small","messages":[],"max_tokens":100001}`)),
	}
	for _, m := range []string{"CONNECT", "TRACE", "PUT", "OPTIONS", "post"} {
		all = append(all, forge("method "+m, method(m)))
	}
	return all
}

// s2 is forged calls to the custodian for every business unit, from inside the gateway and from beside it.
func (f *field) s2(ctx context.Context, r *Report, d *doubled) error {
	f.say("S2: both attackers forge calls to the custodian.")
	for name, socket := range map[string]string{"in the gateway": f.inside(), "beside the gateway": f.beside()} {
		s := Line{ID: "S2", Place: "forged calls, " + name}
		tried, refused := 0, map[string]int{}
		for i, own := range f.clients {
			for _, c := range own.credentials {
				for _, forgery := range f.forgeries(c, own, f.clients[1-i]) {
					got, err := order(ctx, socket, Order{Forge: &forgery})
					if err != nil {
						return fmt.Errorf("%s (%s): %w", forgery.Name, c, err)
					}
					tried++
					if got.Answer.Refused == "" && !got.Answer.Broken {
						s.Reeve++
						s.Detail += forgery.Name + " went through; "
					}
					s.Reeve += len(got.Answer.Found)
					refused[got.Answer.how()]++
				}
			}
		}
		s.Detail += fmt.Sprintf("%d tried, refused as %s", tried, counts(refused))
		if name == "in the gateway" {
			spent, err := f.spend(ctx, d)
			if err != nil {
				return err
			}
			s.Double = spent
		}
		r.add(s)
	}
	return nil
}

// replays is how often each captured proof is used again in one step of S3.
const replays = 20

// s3 is the replay of captured proofs. Of bearer proofs it is possible within grants and ledgered, and reported; outside the grants,
// after expiry, after revocation it is a hit. Of signed requests it always is.
func (f *field) s3(ctx context.Context, r *Report, _ *doubled) error {
	f.say("S3: captured proofs are replayed: within grants, after expiry, after revocation.")
	replay := func(c client) (through, unledgered int, err error) {
		for i := range replays {
			credential := c.credentials[i%len(c.credentials)]
			forgery := f.forgeries(credential, c, c)[0]
			forgery.Open.Proof.Value = []byte(c.key)
			got, err := order(ctx, f.inside(), Order{Forge: &forgery})
			if err != nil {
				return 0, 0, err
			}
			if got.Answer.Refused == "" {
				through++
				if got.Answer.Receipt == "" {
					unledgered++
				}
			}
		}
		return through, unledgered, nil
	}
	within := Line{ID: "S3", Place: "replay within grants"}
	for _, c := range f.clients {
		through, unledgered, err := replay(c)
		if err != nil {
			return err
		}
		r.Replayed += through
		within.Reeve += unledgered
	}
	within.Detail = fmt.Sprintf("%d went through, each with its ledger entry; %d without", r.Replayed, within.Reeve)
	r.add(within)

	if err := f.signedRequests(ctx, r); err != nil {
		return err
	}
	rotated, err := f.rotatedClient(ctx)
	if err != nil {
		return err
	}
	stolen := Line{ID: "S3", Place: "replay of a stolen key after its rotation", Detail: "refused"}
	if stolen.Reeve, _, err = replay(rotated); err != nil {
		return err
	}
	r.add(stolen)

	brief, err := f.briefClient(ctx)
	if err != nil {
		return err
	}
	expired := Line{ID: "S3", Place: "replay after expiry", Detail: "refused"}
	if expired.Reeve, _, err = replay(brief); err != nil {
		return err
	}
	r.add(expired)

	for _, closing := range []struct {
		name   string
		target func(client) statement.Target
		signed bool
	}{
		{"replay after a signed revocation of the key", keyTarget, true},
		{"replay after a freeze of the unit at the admin socket", unitTarget, false},
	} {
		s := Line{ID: "S3", Place: closing.name, Detail: "refused"}
		victim := f.clients[0]
		if !closing.signed {
			victim = f.clients[1]
		}
		took, err := f.close(ctx, closing.target(victim), closing.signed)
		if err != nil {
			return err
		}
		if s.Reeve, _, err = replay(victim); err != nil {
			return err
		}
		s.Detail = fmt.Sprintf("refused; the custodian knew after %s", took.Round(time.Millisecond))
		r.add(s)
	}
	return nil
}

// s4 is an upstream that reflects the credential, in every place and every encoding, and sources of secrets that are an attacker's.
func (f *field) s4(ctx context.Context, r *Report, d *doubled) error {
	if err := f.s4reflects(ctx, r, d); err != nil {
		return err
	}
	return f.s4sources(ctx, r, d)
}

func (f *field) s4reflects(ctx context.Context, r *Report, d *doubled) error {
	f.say("S4: the upstream reflects the credential in every form.")
	places := map[string]*Line{}
	var sorted []string
	for _, form := range reflections() {
		place, _, _ := strings.Cut(form, ",")
		s := places[place]
		if s == nil {
			s = &Line{ID: "S4", Place: "reflected in " + place}
			places[place] = s
			sorted = append(sorted, place)
		}
		for _, own := range f.clients {
			for _, c := range own.credentials {
				if err := f.reflect(ctx, s, d, own, c, form); err != nil {
					return fmt.Errorf("%s of %s: %w", form, c, err)
				}
			}
		}
	}
	for _, place := range sorted {
		r.add(*places[place])
	}
	got, err := f.searchAgain(ctx)
	if err != nil {
		return err
	}
	r.add(Line{ID: "S4", Place: "the gateway's memory afterwards", Reeve: got.Count("memory"), Detail: fmt.Sprintf("%d bytes searched", got.Bytes)})
	return nil
}

func (f *field) searchAgain(ctx context.Context) (*loot.Survey, error) {
	got, err := order(ctx, f.inside(), Order{Search: &loot.Target{PIDs: []int{0}, Needles: f.needles}})
	return got.Survey, err
}

// reflect makes one call whose answer holds the key, through reeve's hop and through the double.
func (f *field) reflect(ctx context.Context, s *Line, d *doubled, own client, c, form string) error {
	forgery := f.forgeries(c, own, own)[0]
	forgery.Open.Proof.Value = []byte(own.key)
	forgery.Open.Header = append(forgery.Open.Header, hop.Field{Name: "X-Demo-Reflect", Value: form})
	if strings.HasPrefix(form, "sse") {
		forgery.Open.Body = streamed(forgery.Open.Body)
	}
	got, err := order(ctx, f.inside(), Order{Forge: &forgery})
	if err != nil {
		return err
	}
	if n := len(got.Answer.Found); n > 0 {
		s.Reeve += n
		s.Detail += fmt.Sprintf("%s of %s came through; ", form, c)
	}
	found, err := d.call(ctx, own, c, &forgery)
	s.Double += found
	return err
}

// reflections are the demo upstream's forms: every place with the raw key, every encoding in the body and a character at a time,
// every content coding.
func reflections() []string {
	var all []string
	for _, place := range []string{"body", "header", "header-name", "trailer", "location", "error", "sse", "sse-delta", "ndjson", "onebyte"} {
		all = append(all, place+",raw")
	}
	for _, encoding := range []string{"base64", "base64-1", "base64-2", "base64url", "base64-wrapped", "hex", "hex-upper", "url", "json", "html", "html-hex"} {
		all = append(all, "body,"+encoding, "onebyte,"+encoding, "sse-delta,"+encoding, "ndjson,"+encoding, "header,"+encoding)
	}
	for _, coding := range []string{"gzip", "deflate", "deflate-raw", "br"} {
		all = append(all, "body,raw,"+coding)
	}
	return all
}

// reflected forms must be the upstream's own words: a typing error would make S4 pass by asking for nothing.
func checkReflections() error {
	known := upstream.Forms()
	for _, form := range reflections() {
		for _, word := range strings.Split(form, ",") {
			if !slices.Contains(known, word) {
				return fmt.Errorf("the demo upstream knows no reflection %q", word)
			}
		}
	}
	return nil
}

func (f *field) admin() *operator.Client { return operator.New(f.dir.Socket(host.Custodian, "admin")) }

// close closes a target and returns once the custodian says that it is closed.
func (f *field) close(ctx context.Context, target statement.Target, signed bool) (time.Duration, error) {
	begun := time.Now()
	if signed {
		file, name, err := f.revocation(target)
		if err != nil {
			return 0, err
		}
		if err := f.publish(name, file); err != nil {
			return 0, err
		}
	} else if _, err := f.admin().Freeze(ctx, target, "drill"); err != nil {
		return 0, fmt.Errorf("freezing %s %s: %w", target.Kind, target.ID, err)
	}
	for {
		s, err := f.admin().Status(ctx)
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(s.Closed, func(c admin.Closed) bool { return c.Target == target }) {
			return time.Since(begun), nil
		}
		if time.Since(begun) > 30*time.Second {
			return 0, fmt.Errorf("the custodian has not closed %s %s within 30 s", target.Kind, target.ID)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// revocation is the policy owner's next, and the name that its file has in the store.
func (f *field) revocation(target statement.Target) (*statement.Envelope, string, error) {
	ada, err := estate.Open(f.dir.Join("people", "ada.key"), nil)
	if err != nil {
		return nil, "", err
	}
	f.revoked++
	env, err := estate.Seal("revocation", statement.Revocation{
		Estate: demo.ID, Signer: "ada", Number: f.revoked, Target: target, Reason: "drill", Time: time.Now().UTC().Truncate(time.Second),
	}, ada)
	return env, fmt.Sprintf("ada-%d", f.revoked), err
}

// publish writes a record where the authority reads it.
func (f *field) publish(name string, env *statement.Envelope) error {
	return estate.Dir(f.dir.Join("estate")).WriteRecord(name, env)
}

// rotatedClient is a workload whose key was seen by an attacker and then rotated without overlap.
func (f *field) rotatedClient(ctx context.Context) (client, error) {
	ada, err := estate.Open(f.dir.Join("people", "ada.key"), nil)
	if err != nil {
		return client{}, err
	}
	c, life := f.clients[0], time.Hour
	from := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	key, env, err := estate.NewKey(demo.ID, c.workload, from, life, ada)
	if err != nil {
		return client{}, err
	}
	name, err := estate.KeyName(env)
	if err == nil {
		err = f.publish(name, env)
	}
	c.key = string(key.Reveal())
	if err == nil {
		err = f.untilAccepted(ctx, c)
	}
	if err != nil {
		return client{}, err
	}
	// Another record of the same key with an earlier end, beside the one of the new key: what a rotation is.
	var k statement.WorkloadKey
	if err := json.Unmarshal(env.Payload, &k); err != nil {
		return client{}, err
	}
	k.NotAfter = time.Now().UTC().Truncate(time.Second)
	shorter, err := estate.Seal("workload-key", k, ada)
	if err == nil {
		err = f.publish(name+"-rotated", shorter)
	}
	if err != nil {
		return client{}, err
	}
	return c, f.untilRefused(ctx, c)
}

// keyed is research-agent with a new key that lives so long from now, once it works.
func (f *field) keyed(ctx context.Context, life time.Duration) (client, error) {
	ada, err := estate.Open(f.dir.Join("people", "ada.key"), nil)
	if err != nil {
		return client{}, err
	}
	c := f.clients[0]
	key, env, err := estate.NewKey(demo.ID, c.workload, time.Now().Add(-time.Minute), time.Minute+life, ada)
	if err != nil {
		return client{}, err
	}
	name, err := estate.KeyName(env)
	if err == nil {
		err = f.publish(name, env)
	}
	if err != nil {
		return client{}, err
	}
	c.key = string(key.Reveal())
	return c, f.untilAccepted(ctx, c)
}

// briefClient is a workload with a key that has expired by the time it returns.
func (f *field) briefClient(ctx context.Context) (client, error) {
	c, err := f.keyed(ctx, 4*time.Second)
	if err == nil {
		time.Sleep(5 * time.Second)
	}
	return c, err
}

// untilAccepted waits until the key works: an expired key that never worked would prove nothing.
func (f *field) untilAccepted(ctx context.Context, c client) error {
	var last error
	for range 100 {
		if last = c.call(ctx, c.credentials[0]); last == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("a new key never worked: %w", last)
}

// untilRefused waits until the custodian itself refuses the key: it hears of a rotation from its own feed.
func (f *field) untilRefused(ctx context.Context, c client) error {
	for range 50 {
		forgery := f.forgeries(c.credentials[0], c, c)[0]
		forgery.Open.Proof.Value = []byte(c.key)
		got, err := order(ctx, f.inside(), Order{Forge: &forgery})
		if err != nil || got.Answer.Refused != "" {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the custodian still takes a key that was rotated 5 s ago")
}

func keyTarget(c client) statement.Target  { return statement.Target{Kind: "key", ID: hashOf(c.key)} }
func unitTarget(c client) statement.Target { return statement.Target{Kind: "unit", ID: c.unit} }

func counts(m map[string]int) string {
	var all []string
	for k, n := range m {
		all = append(all, fmt.Sprintf("%s %d×", k, n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func flip(key string) string {
	last := key[len(key)-1]
	if last == 'a' {
		return key[:len(key)-1] + "b"
	}
	return key[:len(key)-1] + "a"
}

func readEnv(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	vars := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "="); ok {
			vars[name] = value
		}
	}
	return vars, nil
}
