package captured

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

// split has the unit support served by a custodian of its own, c2.
func split(second *age.X25519Identity) []estatetest.Option {
	return []estatetest.Option{estatetest.Service("log", "c2"), estatetest.Edit(func(p *estate.Plan) {
		c2 := statement.Custodian{ID: "c2", Recipient: second.Recipient().String()}
		for _, k := range p.Charter.ServiceKeys {
			if k.Use == "log" && k.Process == "c2" {
				c2.Log = k.Key
			}
		}
		p.Custody["support"].Custodians = []statement.Custodian{c2}
		if g := &p.Operations.Gateways[0]; slices.Contains(g.Units, "support") {
			g.Custodians = append(g.Custodians, "c2")
		}
	})}
}

// A captured custodian opens what was handed over to it and nothing else; what it takes for its own at another's, by its key or by what
// owners signed for it, is refused there, and no gateway asks it for what it does not serve.
func TestCustodian(t *testing.T) {
	second, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	opened, kept := 0, 0
	each(t, func(t *testing.T, w *world) {
		key := map[string]*age.X25519Identity{"c1": w.Identity, "c2": second}
		stores := map[string]*sealed.Store{}
		for id, k := range key {
			dir, err := state.Open(filepath.Join(t.TempDir(), "sealed"))
			if err != nil {
				t.Fatal(err)
			}
			if stores[id], _, err = sealed.Open(dir, id, &sealed.Key{Identity: k, Recipient: k.Recipient(), Public: k.Recipient().String()}); err != nil {
				t.Fatal(err)
			}
		}
		var credentials []string
		for _, u := range w.Set.Charter.Units {
			for _, c := range w.Set.Custody[u.ID].Credentials {
				if owner, live := w.Set.Owner(c.ID, w.Now); live {
					credentials = append(credentials, c.ID)
					if _, err := handover.Put(w.Dir, w.Set, c.ID, secret.New([]byte("demo-upstream-key-of-"+c.ID)), w.by[owner.ID], w.Now); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if len(credentials) == 0 {
			return
		}
		files, err := filepath.Glob(filepath.Join(w.Dir.Signed(), "sealed", "*", "*.age"))
		if err != nil || len(files) < len(credentials) {
			t.Fatalf("%v, %v", files, err)
		}
		for _, file := range files { // every ciphertext of the estate, by every custodian
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for id, k := range key {
				r, err := age.Decrypt(bytes.NewReader(b), k)
				if mine := strings.HasSuffix(file, "-"+id+".age"); (err == nil) != mine {
					t.Fatalf("seed %d: %s opens %s: %v", *seed, id, filepath.Base(file), err)
				}
				if err == nil {
					if _, err := io.ReadAll(r); err != nil {
						t.Fatal(err)
					}
					opened++
				}
			}
		}
		for n := range *attacks / 2 {
			cred, from, to := w.pick(credentials...), w.pick("c1", "c2"), w.pick("c1", "c2")
			owner, _ := w.Set.Owner(cred, w.Now)
			ciphertext, err := seal.Seal(w.pick(key[from].Recipient().String(), key[to].Recipient().String()), []byte("demo-upstream-key-of-somebody"))
			if err != nil {
				t.Fatal(err)
			}
			h := seal.Handover("demo", cred, int64(n+2), from, ciphertext, w.Now)
			env, err := estate.Seal("handover", h, w.by[owner.ID])
			if err != nil {
				t.Fatal(err)
			}
			forged := w.rng.Intn(3)
			switch forged {
			case 1: // what was signed for one is addressed to the other
				h.Custodian = to
				if env.Payload, err = statement.Canonical(h); err != nil {
					t.Fatal(err)
				}
			case 2: // signed by the custodian itself, under the owner's key id
				h.Custodian = to
				forger, err := estate.NewSigner(owner.ID)
				if err != nil {
					t.Fatal(err)
				}
				if env, err = estate.Seal("handover", h, forger); err != nil {
					t.Fatal(err)
				}
				env.Signatures[0].Sig = w.Sign("log", from, env.PayloadType, env.Payload)
			}
			held, err := stores[to].Accept(w.Set, env, ciphertext, w.Now)
			if err != nil || held == nil {
				continue
			}
			if kept++; from != to || forged == 2 || !w.Set.Serves(to, cred) {
				t.Fatalf("seed %d: %s took a handover of %s for %s", *seed, to, cred, from)
			}
		}
		for _, cred := range credentials {
			for id := range key {
				if why := w.Set.Route("g1", id, cred, w.Now); why == "" && !w.Set.Serves(id, cred) {
					t.Fatalf("seed %d: g1 asks %s for %s", *seed, id, cred)
				}
			}
		}
	}, split(second)...)
	t.Logf("%d ciphertexts were opened by their custodians, %d handovers taken", opened, kept)
	if *estates**attacks >= 200 && (opened < 4 || kept < 4) {
		t.Error("too few handovers came through")
	}
}

// A custodian that writes its past anew with its own key is seen by whoever keeps a checkpoint or a receipt of it, wherever the two begin
// to differ and however long each is.
func TestPast(t *testing.T) {
	found := 0
	each(t, func(t *testing.T, w *world) {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(w.Signer("log", "c1")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := ledger.LoadKey(file)
		if err != nil {
			t.Fatal(err)
		}
		trust := &verify.Trust{Estate: "demo", Logs: []verify.Log{{Process: "c1", Origin: key.Origin(), Key: key.Verifier()}}}
		write := func(entries []string) (tiles string, receipts []string) {
			dir := t.TempDir()
			tiles = filepath.Join(dir, "tiles")
			l, err := ledger.Open(context.Background(), ledger.Config{Key: key, Dir: filepath.Join(dir, "ledger"), Tiles: tiles, SegmentSize: 1 << 20, Interval: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			for _, credential := range entries {
				d, err := l.Append(&entry.Entry{Type: entry.Intent, Tenant: "acme", Unit: "research", Workload: "research-agent", Credential: credential, Decision: "allow"}, nil)
				if err != nil {
					t.Fatal(err)
				}
				receipts = append(receipts, d.Receipt())
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return tiles, receipts
		}
		var was, said []string
		for range 2 + w.rng.Intn(8) {
			was = append(was, w.pick("research-openai", "research-anthropic"))
		}
		honest, receipts := write(was)
		at := w.rng.Intn(len(was))
		said = append(append(said, was...), "research-openai")
		switch w.rng.Intn(3) {
		case 0: // another use than that
			said[at] = "support-openai"
		case 1: // none
			said = append(said[:at], said[at+1:]...)
		default: // cut there
			said = said[:at]
		}
		forged, _ := write(said)
		checkpoint, err := os.ReadFile(filepath.Join(honest, "checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		receipt := receipts[at]
		for name, o := range map[string]verify.Options{"nothing": {}, "the checkpoint": {Since: checkpoint}, "the receipt": {Receipt: receipt}} {
			if r, err := trust.Directory(os.DirFS(honest), o); err != nil || len(r.Findings) > 0 {
				t.Fatalf("seed %d: the true past, by %s: %+v, %v", *seed, name, r, err)
			}
			r, err := trust.Directory(os.DirFS(forged), o)
			if name == "nothing" {
				continue
			}
			if err == nil && len(r.Findings) == 0 {
				t.Fatalf("seed %d: %v was written anew as %v, and %s did not show it: %+v", *seed, was, said, name, r)
			}
			found++
		}
	})
	t.Logf("%d times the other past was found", found)
}
