package handover

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

const value = "demo-upstream-key-for-this-test"

func TestRead(t *testing.T) {
	for _, c := range []struct {
		in, want string
	}{
		{value, value},
		{value + "\n", value},
		{value + "\r\n", value},
		{value + "\n\n", value + "\n"},
		{"", ""},
	} {
		v, err := Read(strings.NewReader(c.in))
		if err != nil || string(v.Reveal()) != c.want {
			t.Errorf("Read(%.40q): %v, %d bytes", c.in, err, v.Len())
		}
	}
}

func TestPut(t *testing.T) {
	e := estatetest.New(t)
	for version := int64(1); version <= 2; version++ {
		done, err := Put(e.Dir, e.Set, "research-openai", secret.New([]byte(value)), e.Cora, e.Now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&Done{"research-openai", version, []string{"c1"}, "cora"}, done); diff != "" {
			t.Error(diff)
		}
	}
	records, err := estate.ReadRecords(e.Dir.Store(), "handover")
	if err != nil {
		t.Fatal(err)
	}
	env := records["research-openai-2-c1"]
	h, err := e.Set.OpenHandover(env, "c1", e.Now)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := os.ReadFile(filepath.Join(e.Dir.Signed(), "sealed", "research-openai", "2-c1.age"))
	if err != nil || seal.Sum(ciphertext) != h.SHA256 {
		t.Fatalf("the record does not name the ciphertext: %v", err)
	}
	r, err := age.Decrypt(bytes.NewReader(ciphertext), e.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != value {
		t.Errorf("the custodian does not get the secret: %v", err)
	}
	list, err := List(e.Dir, e.Set, e.Now)
	if err != nil || len(list) != 4 || list[0].Version != 2 || list[1].Version != 0 || list[0].Owner != "cora" {
		t.Errorf("list: %+v, %v", list, err)
	}
}

// A private key with its certificates goes where a client certificate is the credential, as the file is, and nowhere else.
func TestPutPEM(t *testing.T) {
	pem := "-----BEGIN DEMO KEY-----\ndemo-body-of-a-key\n-----END DEMO KEY-----\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	e := estatetest.New(t, estatetest.Edit(func(p *estate.Plan) { p.Custody["research"].Credentials[0].Inject = statement.Inject{As: "tls"} }))
	for credential, want := range map[string]error{"research-openai": nil, "research-anthropic": seal.ErrUnfit} {
		v, err := Read(strings.NewReader(pem))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Put(e.Dir, e.Set, credential, v, e.Cora, e.Now); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", credential, err, want)
		}
	}
}

func TestPutRefusals(t *testing.T) {
	e := estatetest.New(t)
	if _, err := Put(e.Dir, e.Set, "research-openai", secret.New([]byte(value)), e.Ada, e.Now); !errors.Is(err, ErrOwner) {
		t.Errorf("by another person: %v", err)
	}
	if _, err := Put(e.Dir, e.Set, "nothing", secret.New([]byte(value)), e.Cora, e.Now); !errors.Is(err, ErrCredential) {
		t.Errorf("unknown credential: %v", err)
	}
	for _, unfit := range []string{value + "\n", "demo\nupstream-key-for-this-test", "short", "", strings.Repeat("x", seal.MaxLen+1)} {
		if _, err := Put(e.Dir, e.Set, "research-openai", secret.New([]byte(unfit)), e.Cora, e.Now); !errors.Is(err, seal.ErrUnfit) {
			t.Errorf("%.40q: %v", unfit, err)
		}
	}
	if _, err := os.Stat(filepath.Join(e.Dir.Signed(), "sealed")); err == nil {
		t.Error("a refusal left something in the store")
	}
}
