package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"filippo.io/age"
	"github.com/goccy/go-yaml"

	demo "github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

// fleet is an estate with several custodians and gateways, each a process of its own on this machine.
type fleet struct {
	base, bin     string
	dir           estate.Dir
	pin           statement.Pin
	set           *statement.Set
	ada           *estate.Signer // owns policy: registers and revokes keys
	authority     string         // URL
	auditor       string
	gateways      []string // URLs
	custodians    int
	processes     map[string]*process
	keys          [][]byte // bearer keys of the workload
	addr          map[string]string
	ca            *demo.CA
	origin        string
	logKeys       map[string]string // signer keys by process
	feedKey, wKey string
	trust         verify.Trust
}

// process is one child.
type process struct {
	name string
	path string
	args []string
	mu   sync.Mutex
	cmd  *exec.Cmd
}

// newFleet signs the estate and writes every process's configuration.
func newFleet(base, bin, origin string, ca *demo.CA, custodians, gateways, keys int) (*fleet, error) {
	f := &fleet{base: base, bin: bin, dir: estate.Dir(filepath.Join(base, "estate")), custodians: custodians, processes: map[string]*process{},
		addr: map[string]string{}, ca: ca, origin: origin, logKeys: map[string]string{}}
	names := []string{"a1", "w1"}
	for i := range gateways {
		names = append(names, fmt.Sprintf("g%d", i+1))
	}
	for _, n := range names {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		f.addr[n] = addr
	}
	f.authority, f.auditor = "http://"+f.addr["a1"], "http://"+f.addr["w1"]
	if err := f.sign(gateways, keys); err != nil {
		return nil, err
	}
	return f, f.configure()
}

// sign makes the estate: the demo's shape with more of everything, and short bounds for the credential.
func (f *fleet) sign(gateways, keys int) error {
	now := time.Now().UTC().Truncate(time.Second)
	var people []*estate.Signer
	for _, id := range []string{"ada", "bea", "cora"} {
		s, err := estate.NewSigner(id)
		if err != nil {
			return err
		}
		people = append(people, s)
	}
	f.ada = people[0]
	var service []statement.ServiceKey
	key := func(use, name, process string, alg byte) (string, error) {
		public, private, err := ed25519.GenerateKey(nil)
		service = append(service, statement.ServiceKey{Use: use, Process: process, Key: estate.NoteKey(name, alg, public), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)})
		if use == "log" {
			f.trust.Logs = append(f.trust.Logs, verify.Log{Process: process, Origin: name, Key: estate.NoteKey(name, alg, public)})
		}
		return estate.NoteSigner(name, alg, private), err
	}
	logs := []string{"a1"}
	for i := range f.custodians {
		logs = append(logs, fmt.Sprintf("c%d", i+1))
	}
	for i := range gateways {
		logs = append(logs, fmt.Sprintf("g%d", i+1))
	}
	var err error
	for _, p := range logs {
		if f.logKeys[p], err = key("log", "reeve/demo/"+p, p, 1); err != nil {
			return err
		}
	}
	if f.feedKey, err = key("feed", "reeve/demo/feed/a1", "a1", 1); err != nil {
		return err
	}
	if f.wKey, err = key("witness", "reeve/demo/witness/w1", "w1", 4); err != nil {
		return err
	}
	w := service[len(service)-1]
	f.trust.Estate, f.trust.Need = "demo", 1
	f.trust.Witnesses = []verify.Witness{{Name: "reeve/demo/witness/w1", Key: w.Key}}
	identities := map[string]*age.X25519Identity{}
	var custodians []statement.Custodian
	for i := range f.custodians {
		id := fmt.Sprintf("c%d", i+1)
		if identities[id], err = age.GenerateX25519Identity(); err != nil {
			return err
		}
		log, _, _ := strings.Cut(f.verifier(service, id), "\n")
		custodians = append(custodians, statement.Custodian{ID: id, Recipient: identities[id].Recipient().String(), Log: log})
		if err := f.write(id+"/identity.age", []byte(identities[id].String()+"\n")); err != nil {
			return err
		}
	}
	d := estate.Demo{Policy: people[0], Operations: people[1], Lifecycle: people[2], ServiceKeys: service, Recipient: custodians[0].Recipient,
		GatewayURL: "http://" + f.addr["g1"], Origin: f.origin, Networks: []string{"127.0.0.1/32"}, CA: string(f.ca.PEM), Until: now.Add(24 * time.Hour)}
	plan := d.Plan()
	plan.Charter.Revocation = statement.Bounds{High: statement.Duration(2 * time.Second), Normal: statement.Duration(2 * time.Second)}
	first := plan.Operations.Gateways[0]
	plan.Operations.Gateways = nil
	for i := range gateways {
		g := first
		g.ID, g.Custodians = fmt.Sprintf("g%d", i+1), nil
		g.URL = "http://" + f.addr[g.ID]
		for _, c := range custodians {
			g.Custodians = append(g.Custodians, c.ID)
		}
		plan.Operations.Gateways = append(plan.Operations.Gateways, g)
		f.gateways = append(f.gateways, g.URL)
	}
	for unit, c := range plan.Custody {
		c.Custodians = custodians
		plan.Policies[unit].Limits = nil // a revoked key is tried again and again here
	}
	f.pin, f.set, err = plan.Create(f.dir, people, now, estate.Lives{Statements: 24 * time.Hour, Lock: 24 * time.Hour})
	if err != nil {
		return err
	}
	for range keys {
		k, _, err := f.dir.IssueKey(f.set, "research-agent", now, time.Hour, f.ada)
		if err != nil {
			return err
		}
		f.keys = append(f.keys, append([]byte(nil), k.Reveal()...))
	}
	for _, c := range custodians {
		ciphertext, err := seal.Seal(c.Recipient, []byte("bench-upstream-key-0001"))
		if err != nil {
			return err
		}
		h := seal.Handover("demo", "research-openai", 1, c.ID, ciphertext, now)
		env, err := estate.Seal("handover", h, people[2])
		if err == nil {
			err = f.dir.WriteRecord("research-openai-1-"+c.ID, env)
		}
		if err == nil {
			err = durable.Replace(filepath.Join(string(f.dir.Signed()), feed.SealedPath(&h)), ciphertext, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) verifier(keys []statement.ServiceKey, process string) string {
	for _, k := range keys {
		if k.Use == "log" && k.Process == process {
			return k.Key
		}
	}
	return ""
}

func (f *fleet) write(name string, b []byte) error {
	path := filepath.Join(f.base, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func (f *fleet) at(elem ...string) string { return filepath.Join(append([]string{f.base}, elem...)...) }

// configure writes the configurations. Every gateway knows every custodian and begins with another one; all run as this user, so a
// custodian takes all of them for its first.
func (f *fleet) configure() error {
	type m = map[string]any
	trust := m{"estate": "demo", "charter_sha256": f.pin.CharterSHA256}
	witnesses := []m{{"url": f.auditor}}
	common := func(id string) m {
		return m{"id": id, "ops": "unix:" + f.at(id, "ops.sock"), "state_dir": f.at(id, "state"), "tiles_dir": f.at("tiles", id), "estate_trust": trust,
			"log_key": f.at(id, "log.key"), "witnesses": witnesses}
	}
	configs := map[string]m{}
	var sources []m
	for id, key := range f.logKeys {
		if err := f.write(id+"/log.key", []byte(key+"\n")); err != nil {
			return err
		}
		if err := os.MkdirAll(f.at("tiles", id), 0o700); err != nil {
			return err
		}
		sources = append(sources, m{"process": id, "tiles": f.at("tiles", id)})
		c := common(id)
		switch id[0] {
		case 'a':
			c["listen"], c["estate"], c["feed_key"] = f.addr[id], f.dir.Signed(), f.at(id, "feed.key")
			c["witnesses"] = []m{{"id": "w1", "url": f.auditor}}
		case 'c':
			c["authority"], c["relays"], c["admin"] = []string{f.authority}, []string{f.auditor}, f.at(id, "admin.sock")
			c["identity"] = m{"file": f.at(id, "identity.age")}
			c["hop"] = m{"socket": f.at(id, "hop.sock"), "gateways": []m{{"id": "g1", "uid": os.Getuid()}}}
		case 'g':
			var ways []m
			for i := range f.custodians {
				way := fmt.Sprintf("c%d", i+1)
				ways = append(ways, m{"id": way, "socket": f.at(way, "hop.sock")})
			}
			c["authority"], c["listen"], c["hop"] = []string{f.authority}, f.addr[id], m{"custodians": ways}
		}
		configs[id] = c
	}
	if err := errors.Join(f.write("a1/feed.key", []byte(f.feedKey+"\n")), f.write("w1/witness.key", []byte(f.wKey+"\n"))); err != nil {
		return err
	}
	raw, err := json.Marshal(f.trust)
	if err != nil {
		return err
	}
	if err := f.write("w1/trust.json", raw); err != nil {
		return err
	}
	configs["w1"] = m{"id": "w1", "listen": f.addr["w1"], "ops": "unix:" + f.at("w1", "ops.sock"), "state_dir": f.at("w1", "state"), "trust": f.at("w1", "trust.json"),
		"witness_key": f.at("w1", "witness.key"), "logs": sources}
	binaries := map[byte]string{'a': "reeve-authority", 'c': "reeve-custodian", 'g': "reeve-gateway", 'w': "reeve-auditor"}
	for id, c := range configs {
		b, err := yaml.Marshal(c)
		if err != nil {
			return err
		}
		if err := f.write(id+"/config.yaml", b); err != nil {
			return err
		}
		f.processes[id] = &process{name: id, path: filepath.Join(f.bin, binaries[id[0]]), args: []string{"--config", f.at(id, "config.yaml"), "--demo"}}
	}
	return nil
}

// start starts every process and waits until all are ready.
func (f *fleet) start(ctx context.Context) error {
	for _, kind := range "wacg" {
		for id, p := range f.processes {
			if rune(id[0]) == kind {
				if err := p.start(f.at(id, "log")); err != nil {
					return err
				}
			}
		}
	}
	return f.ready(ctx)
}

func (f *fleet) ready(ctx context.Context) error {
	for id := range f.processes {
		if err := f.await(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// await waits until one process is ready.
func (f *fleet) await(ctx context.Context, id string) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", f.at(id, "ops.sock"))
	}}}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get("http://ops/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			log, _ := os.ReadFile(f.at(id, "log"))
			return fmt.Errorf("%s is not ready: %v; its log ends with:\n%s", id, err, log[max(0, len(log)-2000):])
		}
	}
}

func (f *fleet) stop() {
	for _, p := range f.processes {
		p.signal(syscall.SIGCONT)
		p.signal(syscall.SIGKILL)
	}
	for _, p := range f.processes {
		p.wait()
	}
}

func (p *process) start(log string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = w, w
	return p.cmd.Start()
}

func (p *process) signal(s os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(s) // one that has ended
	}
}

func (p *process) wait() {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Wait()
	}
}
