package faults

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// TestCertificateHandedOver: a private key with its certificate, many lines of PEM, is handed over by hand, and what the provider sees from then on is that
// certificate. Of a key without its certificate the custodian says what is missing. No output shows a line of it.
func TestCertificateHandedOver(t *testing.T) {
	mutual := newProvider(t, func(r *http.Request) string {
		if len(r.TLS.PeerCertificates) == 0 {
			return ""
		}
		return r.TLS.PeerCertificates[0].SerialNumber.String()
	}, message)
	first, before := clientCertificate(t)
	second, now := clientCertificate(t)
	s := makeSite(t, func(credential string) secret.Value {
		if credential == "research-anthropic" {
			return secret.New([]byte(first))
		}
		return demo.RandomKey(credential)
	}, func(p *estate.Plan) { mutual.serve(&p.Custody["research"].Credentials[1], statement.Inject{As: "tls"}) })
	s.mustUp()
	use := func() answer {
		return s.call(s.key, http.MethodPost, "/v1/messages", `{"model":"anthropic/demo-claude","max_tokens":16,"messages":[{"role":"user","content":"hello"}]}`)
	}
	mutual.learn(before)
	if a := use(); a.status != http.StatusOK {
		t.Fatal(a)
	}
	mutual.learn("another") // what is known are the newest two
	mutual.learn(now)
	put := func(text string) string {
		t.Helper()
		out, status := s.reeveWith(text, "credential", "put", "research-anthropic", "--as", "cora")
		if status != 0 {
			t.Fatalf("credential put: %d, %s", status, out)
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && strings.Contains(out, line) {
				t.Errorf("it shows %s", line)
			}
		}
		return out
	}
	contains(t, "credential put", put(second), "version 2 is sealed to c1, signed by cora")
	s.await("the new certificate is shown", 30*time.Second, func() bool { return use().status == http.StatusOK })

	key, _, _ := strings.Cut(second, "-----BEGIN CERTIFICATE")
	put(key)
	s.await("the custodian says what is missing", 30*time.Second, func() bool {
		use()
		b, err := os.ReadFile(s.dir.Log(host.Custodian))
		return err == nil && strings.Contains(string(b), "the key or the certificate is missing")
	})
}

// TestSecretPerWorkload: where the record says so, the custodian asks for a secret in a workload's own name, and the ledger says whose it is. The provider
// takes no other subject.
func TestSecretPerWorkload(t *testing.T) {
	for _, per := range []bool{true, false} {
		t.Run(fmt.Sprint(per), func(t *testing.T) {
			s := makeSite(t, nil, func(p *estate.Plan) { p.Custody["research"].Credentials[0].From.PerWorkload = per })
			const subject = `/credential/research-openai`
			file := s.dir.Join(host.Upstream, "federation.json")
			b, err := os.ReadFile(file)
			if err == nil && !strings.Contains(string(b), subject+`"`) {
				t.Fatalf("the upstream has no subject %s", subject)
			}
			if err == nil {
				err = os.WriteFile(file, []byte(strings.Replace(string(b), subject+`"`, subject+`/workload/research-agent"`, 1)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			s.mustUp()
			if a := s.chat("hello"); a.used() != per {
				t.Fatal(a)
			}
			s.settled()
			mints := 0
			for _, log := range s.gather(nil).logs {
				for _, e := range log {
					if e.Type != entry.Mint || e.Credential != "research-openai" {
						continue
					}
					if mints++; (e.Workload == "research-agent") != per {
						t.Errorf("mint %d is of %q", e.Seq, e.Workload)
					}
				}
			}
			if mints == 0 {
				t.Error("nothing was minted")
			}
		})
	}
}
