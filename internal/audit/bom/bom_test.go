package bom

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/statement"
)

var update = flag.Bool("update", false, "write the golden file")

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// small is books of an estate with one custodian, one gateway and two credentials, of which one has four versions, two of them over.
func small(t testing.TB) *books.Books {
	t.Helper()
	const id = "0123456789abcdef"
	m := index.NewMemory(index.Log{ID: id, Process: "c1", Origin: "reeve/e/c1"})
	for i, v := range []entry.Entry{
		{Lease: "1", State: "active", CredFP: "fp1", Expires: noon.Unix() + 7200}, {Lease: "2", State: "revoked-unproven", CredFP: "fp2"},
		{Lease: "3", State: "destroyed", CredFP: "fp3"}, {Lease: "4", State: "active", CredFP: "fp4", Expires: noon.Unix() - 60},
	} {
		v.V, v.Log, v.Seq, v.Type, v.Credential, v.TimeNS = 1, id, int64(i), entry.Version, "research-openai", noon.Add(time.Duration(i-10)*time.Minute).UnixNano()
		if err := m.Add(&v); err != nil {
			t.Fatal(err)
		}
	}
	set := &statement.Set{
		Charter: statement.Charter{Estate: "e", Units: []statement.Unit{{ID: "research", Tenant: "t"}, {ID: "lab", Tenant: "t"}}},
		Custody: map[string]*statement.CustodyStatement{
			"research": {
				Custodians: []statement.Custodian{{ID: "c1", Log: "reeve/e/c1+00"}},
				Credentials: []statement.Credential{
					{ID: "research-openai", Owner: "cora", Class: "high", Source: "sealed", MaxLifetime: statement.Duration(24 * time.Hour), Inject: statement.Inject{As: "bearer"},
						Destination: statement.Destination{Origin: "https://api.example", Methods: []string{"POST"}, Paths: []string{"/v1/*"}}},
					{ID: "research-db", Owner: "cora", Class: "normal", Source: "vault", From: statement.From{URL: "https://bao.example/v1/database/creds/ro"}, Inject: statement.Inject{As: "tls"},
						Destination: statement.Destination{Origin: "https://db.example"}},
				},
				Grants: []statement.Grant{{Credential: "research-openai", Unit: "lab"}},
			},
			"lab": {},
		},
		Operations: statement.Operations{Gateways: []statement.Gateway{{ID: "g1", Owners: statement.GatewayOwners{Policy: "ada", Operations: "bob", Lifecycle: "cora"}, Custodians: []string{"c1"}}}},
	}
	set.Lock.Created = noon.Add(-time.Hour)
	return &books.Books{Index: m, History: history.New(set), Now: noon}
}

func TestGolden(t *testing.T) {
	d, err := Make(t.Context(), small(t), noon)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "credentials.cdx.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Fatal(d)
	}
}

// Every ref is there once, and every dependency is on something that is there.
func TestRefsResolve(t *testing.T) {
	d, err := Make(t.Context(), small(t), noon)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]int{}
	var all func([]Component)
	all = func(list []Component) {
		for _, c := range list {
			there[c.Ref]++
			all(c.Components)
		}
	}
	all(d.Components)
	for _, s := range d.Services {
		there[s.Ref]++
	}
	for ref, n := range there {
		if n != 1 {
			t.Errorf("%s is there %d times", ref, n)
		}
	}
	for _, x := range d.Dependencies {
		for _, on := range append(x.On, x.Ref) {
			if there[on] == 0 {
				t.Errorf("%s needs %s, which is not there", x.Ref, on)
			}
		}
	}
	if n := len(d.Components[1].Components); d.Components[1].Name != "research-openai" || n != 2 {
		t.Errorf("%s has %d versions, not the 2 that live", d.Components[1].Name, n)
	}
}

func TestBeforeTheEstate(t *testing.T) {
	if _, err := Make(t.Context(), small(t), noon.Add(-2*time.Hour)); err == nil {
		t.Fatal("there was an estate before its first set")
	}
}
