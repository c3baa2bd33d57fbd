package estate

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// Seal signs a record: v is one of the record types of package statement, kind its name.
func Seal(kind string, v any, by ...*Signer) (*statement.Envelope, error) {
	payload, err := statement.Canonical(v)
	if err != nil {
		return nil, err
	}
	env := &statement.Envelope{PayloadType: statement.RecordType(kind), Payload: payload}
	for _, s := range by {
		env.Signatures = append(env.Signatures, s.Sign(env.PayloadType, payload))
	}
	return env, nil
}

// WriteRecord puts a record into the signed store under records/<kind>/<name>.json, replacing what was there.
func (d Dir) WriteRecord(name string, env *statement.Envelope) error {
	kind := Kind(env)
	if kind == "" || strings.ContainsAny(name, "/\\") || strings.HasPrefix(name, ".") {
		return fmt.Errorf("a record %q of type %q has no place in the store", name, env.PayloadType)
	}
	b, err := statement.Canonical(env)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(d.Signed(), "records", kind, name+".json"), b, 0o644)
}

// Kind is the kind of record in an envelope, or empty.
func Kind(env *statement.Envelope) string {
	for _, kind := range []string{"workload-key", "revocation", "handover", "extension", "retirement"} {
		if env.PayloadType == statement.RecordType(kind) {
			return kind
		}
	}
	return ""
}

// ReadRecords reads the records of a kind from a store, by name. A file that is no record is an error that names it.
func ReadRecords(store statement.Store, kind string) (map[string]*statement.Envelope, error) {
	names, err := store.ReadDir("records/" + kind)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := map[string]*statement.Envelope{}
	for _, n := range names {
		name, ok := strings.CutSuffix(n, ".json")
		if !ok || strings.HasPrefix(n, ".") {
			continue
		}
		b, err := store.ReadFile("records/" + kind + "/" + n)
		if err != nil {
			return nil, err
		}
		if m[name], err = statement.ParseEnvelope(b); err != nil {
			return nil, fmt.Errorf("records/%s/%s: %w", kind, n, err)
		}
	}
	return m, nil
}

// NewKey makes a bearer key for a workload and its signed record. The key itself is in no record: it is shown once.
func NewKey(estate, workloadID string, from time.Time, life time.Duration, by *Signer) (secret.Value, *statement.Envelope, error) {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return secret.Value{}, nil, err
	}
	key := workload.Encode(random)
	from = from.UTC().Truncate(time.Second)
	env, err := Seal("workload-key", statement.WorkloadKey{
		Estate: estate, Workload: workloadID, Prefix: string(key[:11]), SHA256: hash(key), NotBefore: from, NotAfter: from.Add(life),
	}, by)
	return secret.New(key), env, err
}

// KeyName is the name of a workload key's record in the store.
func KeyName(env *statement.Envelope) (string, error) {
	var k statement.WorkloadKey
	if err := json.Unmarshal(env.Payload, &k); err != nil || len(k.SHA256) < 16 {
		return "", fmt.Errorf("not a workload key record: %w", err)
	}
	return k.Workload + "-" + k.SHA256[:16], nil
}
