package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

// IDs are the processes' ids in the statements.
type IDs struct{ Gateway, Custodian, Authority, Auditor string }

// Public is what the charter and the custody statements say of the processes' keys.
type Public struct {
	ServiceKeys []statement.ServiceKey
	Recipient   string // the custodian's age recipient
	Log         string // the custodian's log key
	Gateway     string // the gateway's peer key on the hop between machines
	Custodian   string // the custodian's
}

// ServiceLife is how long a service key is good for.
const ServiceLife = 365 * 24 * time.Hour

// MakeKeys makes every process's keys in its folder, files of mode 0600, and returns what is public of them.
func (d *Dir) MakeKeys(estateID string, ids IDs, now time.Time) (*Public, error) {
	var pub Public
	for _, k := range []struct{ process, file, use, id string }{
		{Gateway, "log.key", "log", ids.Gateway}, {Custodian, "log.key", "log", ids.Custodian},
		{Authority, "log.key", "log", ids.Authority}, {Authority, "feed.key", "feed", ids.Authority},
		{Auditor, "witness.key", "witness", ids.Auditor}, {Authority, "token.key", "token", ids.Authority},
	} {
		vkey, err := makeNoteKey(d.Join(k.process, k.file), estateID, k.use, k.id)
		if err != nil {
			return nil, fmt.Errorf("making the %s's key: %w", k.process, err)
		}
		if k.process == Custodian {
			pub.Log = vkey
		}
		pub.ServiceKeys = append(pub.ServiceKeys, statement.ServiceKey{Use: k.use, Process: k.id, Key: vkey,
			NotBefore: now.Add(-time.Minute).UTC().Truncate(time.Second), NotAfter: now.Add(ServiceLife).UTC().Truncate(time.Second)})
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("making the custodian's identity: %w", err)
	}
	for process, peer := range map[string]*string{Gateway: &pub.Gateway, Custodian: &pub.Custodian} {
		var text []byte
		if *peer, text, err = hop.NewKey(); err != nil {
			return nil, fmt.Errorf("making the %s's key of the hop: %w", process, err)
		}
		if err := writeKey(d.Join(process, "hop.key"), strings.TrimSpace(string(text))); err != nil {
			return nil, err
		}
	}
	pub.Recipient = identity.Recipient().String()
	return &pub, writeKey(d.Join(Custodian, "identity.age"), identity.String())
}

// makeNoteKey makes a key of the form of golang.org/x/mod/sumdb/note; a witness's has C2SP's cosignature algorithm.
func makeNoteKey(path, estateID, use, id string) (vkey string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	name, algorithm := "reeve/"+estateID+"/"+id, byte(1)
	if use != "log" {
		name = "reeve/" + estateID + "/" + use + "/" + id
	}
	if use == "witness" {
		algorithm = 4
	}
	return estate.NoteKey(name, algorithm, public), writeKey(path, estate.NoteSigner(name, algorithm, private))
}

// writeKey writes a new file: a key is never written over.
func writeKey(path, text string) error {
	return durable.Create(path, []byte(text+"\n"), 0o600)
}
