package vault_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/custodian/source/vault"
	"github.com/reevehq/reeve/internal/statement"
)

// record returns a custody record for path, with parameters in turn: name, value.
func record(origin, path string, parameters ...string) statement.Credential {
	c := statement.Credential{
		ID: "a-credential", Source: "vault", Inject: statement.Inject{As: "bearer"},
		Destination: statement.Destination{Origin: "https://api.example.com", Methods: []string{"POST"}, Paths: []string{"/v1/chat/completions"}},
		From:        statement.From{URL: origin + "/v1/" + path, Parameters: map[string]string{"audit": "unchecked"}},
	}
	for i := 0; i < len(parameters); i += 2 {
		c.From.Parameters[parameters[i]] = parameters[i+1]
	}
	return c
}

func approle(origin string) statement.Credential {
	c := record(origin, "database/creds/readonly", "engine", "lease", "field", "password", "public", "username", "login", "approle", "role", roleID)
	c.From.PerWorkload = true
	return c
}

// writeJWT returns a file with the double's JWT.
func writeJWT(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(newDouble().jwt+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func with(d *double) sourcetest.Double {
	return sourcetest.Double{Handler: d, Secrets: d.secrets}
}

func TestConformanceLease(t *testing.T) {
	sourcetest.Run(t, sourcetest.Harness{
		New: vault.New, Record: approle, Root: secretID, Life: 20 * time.Minute,
		Double: func(string) sourcetest.Double {
			d := newDouble()
			all := with(d)
			all.Alive = d.alive
			return all
		},
		Malformed: []string{
			`{"lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"password":"x"},"metadata":{"version":1}}}`,
			`{"lease_id":"database/creds/readonly/L1","lease_duration":3600,"data":{"password":{"a":"b"}}}`,
			` {"lease_id":"database/creds/readonly/L1","lease_duration":3600,"data":{}}`,
		},
	})
}

func TestConformanceVersion(t *testing.T) {
	file := writeJWT(t)
	sourcetest.Run(t, sourcetest.Harness{
		New: vault.New, Static: true,
		Record: func(origin string) statement.Credential {
			return record(origin, "secret/data/openai", "engine", "kv2", "field", "key", "login", "jwt", "role", "reeve", "token_file", file)
		},
		Double: func(string) sourcetest.Double { return with(newDouble()) },
		Malformed: []string{
			`{"data":{"data":{"key":"x"},"metadata":{"created_time":"2026-11-23T12:09:58Z","version":1,"deletion_time":"2020-01-01T00:00:00Z"}}}`,
			`{"data":{"data":{"key":"x"},"metadata":{"created_time":"2026-11-23T12:09:58Z","version":1,"destroyed":true}}}`,
		},
	})
}
