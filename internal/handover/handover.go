// Package handover hands a secret over: it seals it to every custodian that serves the credential, has the lifecycle owner sign,
// and puts both into the estate's signed store. The recipients come from the verified set, never from a server.
package handover

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

var (
	// ErrCredential means that no custody statement has the credential.
	ErrCredential = errors.New("no such credential")
	// ErrOwner means that the signer is not the credential's live lifecycle owner.
	ErrOwner = errors.New("not the credential's lifecycle owner")
)

// Done says what was handed over.
type Done struct {
	Credential string   `json:"credential"`
	Version    int64    `json:"version"`
	Custodians []string `json:"custodians"`
	Signer     string   `json:"signer"`
}

// Read reads a secret: all of r, without one newline at the end.
func Read(r io.Reader) (secret.Value, error) {
	b, err := io.ReadAll(io.LimitReader(r, seal.MaxLen+2))
	if err != nil {
		return secret.Value{}, fmt.Errorf("reading the secret: %w", err)
	}
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n > 1 && b[n-2] == '\r' {
			b = b[:n-2]
		}
	}
	return secret.New(b), nil
}

// Put seals value, which has to fit the credential's record (seal.Fit), as the credential's next version to each custodian that serves it and writes the signed records.
func Put(dir estate.Dir, set *statement.Set, credential string, value secret.Value, owner *estate.Signer, now time.Time) (*Done, error) {
	to, err := recipients(set, credential)
	if err != nil {
		return nil, err
	}
	person, live := set.Owner(credential, now)
	if !live {
		return nil, fmt.Errorf("%w: %s has no live owner: its lifecycle owners name one in the custody statement", ErrOwner, credential)
	}
	if person.ID != owner.Person {
		return nil, fmt.Errorf("%w: %s is %s's to hand over, not %s's; sign with that key: --key", ErrOwner, credential, person.ID, owner.Person)
	}
	record, _, _ := set.Credential(credential)
	if err := seal.Fit(record, value.Reveal()); err != nil {
		return nil, err
	}
	version, err := newest(dir, credential)
	if err != nil {
		return nil, err
	}
	done := &Done{Credential: credential, Version: version + 1, Signer: owner.Person}
	for _, c := range to {
		if err := put(dir, set.Charter.Estate, done, c, value, owner, now); err != nil {
			return nil, fmt.Errorf("handing %s over to %s: %w", credential, c.ID, err)
		}
		done.Custodians = append(done.Custodians, c.ID)
	}
	return done, nil
}

// put writes the ciphertext first: a record never names one that is not there.
func put(dir estate.Dir, estateID string, d *Done, c statement.Custodian, value secret.Value, owner *estate.Signer, now time.Time) error {
	ciphertext, err := seal.Seal(c.Recipient, value.Reveal())
	if err != nil {
		return err
	}
	record := seal.Handover(estateID, d.Credential, d.Version, c.ID, ciphertext, now.UTC().Truncate(time.Second))
	env, err := estate.Seal("handover", record, owner)
	if err != nil {
		return err
	}
	path := filepath.Join(dir.Signed(), "sealed", d.Credential, fmt.Sprintf("%d-%s.age", d.Version, c.ID))
	if err := durable.Replace(path, ciphertext, 0o644); err != nil {
		return err
	}
	return dir.WriteRecord(fmt.Sprintf("%s-%d-%s", d.Credential, d.Version, c.ID), env)
}

// recipients are the custodians that serve the credential, as the verified custody statement has them.
func recipients(set *statement.Set, credential string) ([]statement.Custodian, error) {
	_, unit, ok := set.Credential(credential)
	if !ok {
		return nil, fmt.Errorf("%w: %q; `reeve credential list` shows all", ErrCredential, credential)
	}
	var to []statement.Custodian
	for _, c := range set.Custody[unit.ID].Custodians {
		if set.Serves(c.ID, credential) {
			to = append(to, c)
		}
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("no custodian serves %s: its owners name one in the custody statement of %s", credential, unit.ID)
	}
	return to, nil
}

// newest is the highest version that was handed over; 0 for none.
func newest(dir estate.Dir, credential string) (int64, error) {
	entries, err := os.ReadDir(filepath.Join(dir.Signed(), "sealed", credential))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking for earlier versions: %w", err)
	}
	var most int64
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "-")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			most = max(most, n)
		}
	}
	return most, nil
}

// Held is a credential and what was handed over of it.
type Held struct {
	Credential string   `json:"credential"`
	Unit       string   `json:"unit"`
	Class      string   `json:"class"`
	Owner      string   `json:"owner"` // empty when orphaned
	Origin     string   `json:"origin"`
	Version    int64    `json:"version"` // 0: nothing was handed over yet
	Custodians []string `json:"custodians"`
}

// List lists every credential of the set, by unit in the charter's order.
func List(dir estate.Dir, set *statement.Set, now time.Time) ([]Held, error) {
	var all []Held
	for _, u := range set.Charter.Units {
		for _, c := range set.Custody[u.ID].Credentials {
			h := Held{Credential: c.ID, Unit: u.ID, Class: c.Class, Origin: c.Destination.Origin, Custodians: []string{}}
			if p, ok := set.Owner(c.ID, now); ok {
				h.Owner = p.ID
			}
			to, err := recipients(set, c.ID)
			if err != nil {
				return nil, err
			}
			for _, custodian := range to {
				h.Custodians = append(h.Custodians, custodian.ID)
			}
			if h.Version, err = newest(dir, c.ID); err != nil {
				return nil, err
			}
			all = append(all, h)
		}
	}
	return all, nil
}
