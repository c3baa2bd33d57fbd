package register_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/statement"
)

var update = flag.Bool("update", false, "write docs/formats/vectors/register.json anew")

// journalVector is one element of docs/formats/vectors/register.json.
type journalVector struct {
	Name  string    `json:"name"`
	Files []string  `json:"files"`
	Now   time.Time `json:"now"`
	Why   string    `json:"why,omitempty"` // it is refused: record, chain or signer
}

// signerOf makes a person's key from a seed of equal bytes, by way of a key file.
func signerOf(t testing.TB, person string, fill byte) *estate.Signer {
	t.Helper()
	seed := bytes.Repeat([]byte{fill}, ed25519.SeedSize)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	b, err := json.Marshal(map[string]any{"person": person, "id": person + "-1", "type": "ed25519", "public": base64.StdEncoding.EncodeToString(public), "seed": seed})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), person)
	put(t, file, b)
	s, err := estate.Open(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func makeVectors(t *testing.T, now time.Time) []journalVector {
	bea, cora := signerOf(t, "bea", 2), signerOf(t, "cora", 3)
	seal := func(number int64, prev string, said register.Said, by *estate.Signer) (file, hash string) {
		env, err := estate.Seal(register.RecordKind, register.Record{Estate: "vectors", Number: number, Prev: prev, Recorded: now, Said: said}, by)
		if err != nil {
			t.Fatal(err)
		}
		b, err := statement.Canonical(env)
		if err != nil {
			t.Fatal(err)
		}
		return string(b), hashOf(env)
	}
	said := register.Said{ID: "acme", Kind: register.Vendor, Name: "Acme AI", Units: []string{"research"}, Declared: []register.Flag{register.Transport}, Valid: now,
		Owners: register.Owners{Policy: "ada", Operations: "bea", Lifecycle: "cora", Contract: "bea"}}
	first, hash := seal(1, "", said, bea)
	probed := said
	probed.Discovered, probed.Probed = []register.Flag{register.Transport, register.Forward}, now.Add(30*24*time.Hour)
	probed.Verdict = &register.Verdict{URL: "https://ai.acme.example", Begun: now, Ended: now, Cannot: []string{"A gateway that keeps a credential and does not send it within the probe looks like one that does not keep it."},
		Found: []register.Finding{{Flag: register.Transport, Why: "7 of 7 requests arrived"}, {Flag: register.Forward, Why: "the canary credential arrived with the request that it was sent with"}}}
	second, next := seal(2, hash, probed, bea)
	gone := said
	gone.Until = gone.Valid
	third, _ := seal(3, next, gone, bea)
	own, _ := seal(1, "", register.Said{ID: "g1", Kind: register.Gateway, Observed: []register.Flag{register.Forward}, Valid: now}, bea)
	declared := register.Said{ID: "g1", Kind: register.Gateway, Declared: []register.Flag{register.Forward}, Valid: now}
	ours, _ := seal(1, "", declared, bea)
	order := said
	order.Declared = []register.Flag{register.Mint, register.Transport}
	disordered, _ := seal(1, "", order, bea)
	partial, both := probed, probed
	verdict, wrong := *probed.Verdict, *probed.Verdict
	verdict.Unseen, wrong.Unseen = []register.Flag{register.Cache, register.Retrieve}, []register.Flag{register.Forward}
	partial.Verdict, both.Verdict = &verdict, &wrong
	unseen, _ := seal(2, hash, partial, bea)
	contradiction, _ := seal(2, hash, both, bea)
	stolen, _ := seal(1, "", said, cora) // a root holder
	foreign, _ := seal(1, "", said, signerOf(t, "bea", 9))
	return []journalVector{
		{"declared, probed, retired", []string{first, second, third}, now, ""},
		{"observed of a gateway of the estate", []string{own}, now, ""},
		{"a probe that could not see everything", []string{first, unseen}, now, ""},
		{"seen and not seen", []string{first, contradiction}, now, "record"},
		{"by a root holder", []string{stolen}, now, ""},
		{"one left out", []string{first, third}, now, "chain"},
		{"the first left out", []string{second}, now, "chain"},
		{"one twice", []string{first, first}, now, "chain"},
		{"by a key that the charter has not", []string{foreign}, now, "signer"},
		{"before the charter", []string{first}, now.Add(-6 * time.Minute), "record"},
		{"a gateway of the estate declared", []string{ours}, now, "record"},
		{"flags out of order", []string{disordered}, now, "record"},
	}
}

func hashOf(env *statement.Envelope) string {
	id := env.ID()
	return hex.EncodeToString(id[:])
}

func TestVectors(t *testing.T) {
	const dir = "../../../docs/formats/vectors/"
	read := func(name string, v any) {
		b, err := os.ReadFile(dir + name)
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var s struct {
		Now   time.Time         `json:"now"`
		Pin   map[string]string `json:"pin"`
		Store map[string]string `json:"store"`
	}
	read("statement.json", &s)
	made := makeVectors(t, s.Now)
	if *update {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(made); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"register.json", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var vectors []journalVector
	read("register.json", &vectors)
	if d := cmp.Diff(made, vectors); d != "" {
		t.Fatalf("what the code writes is not what the vectors say (go test -run Vectors -update, if that is meant):\n%s", d)
	}
	store := feed.Files{}
	for name, text := range s.Store {
		store[name] = []byte(text)
	}
	h, err := history.Open(store, statement.Pin{Estate: s.Pin["estate"], CharterSHA256: s.Pin["charter_sha256"], AllowDemo: true}, s.Now)
	if err != nil {
		t.Fatal(err)
	}
	refusals := map[string]error{"record": register.ErrRecord, "chain": register.ErrChain, "signer": register.ErrSigner, "": nil}
	for _, v := range vectors {
		var files [][]byte
		for _, f := range v.Files {
			files = append(files, []byte(f))
		}
		j, err := register.Parse(files...)
		if err == nil {
			err = j.Verify(h, v.Now)
		}
		if want := refusals[v.Why]; !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", v.Name, err, want)
		}
	}
}
