package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/plain"
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

// AddKey makes another key for a use of a process and puts it at the end of its file. The process goes on with the older one until the
// charter has the new one and the process is told. number is that of the log that a log key is for.
func (d *Dir) AddKey(process, use string, number int, now time.Time) (k statement.ServiceKey, err error) {
	path := d.Join(process, use+".key")
	text, err := os.ReadFile(path)
	if err != nil {
		return k, fmt.Errorf("the %s has no %s key here: %w", process, use, err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	part := strings.SplitN(lines[len(lines)-1], "+", 4)
	if len(part) != 4 {
		return k, fmt.Errorf("%s holds no key of the form that reeve init makes", path)
	}
	name, algorithm := part[2], byte(1)
	first, _ := entry.Successor(name)
	if k.Process = first[strings.LastIndexByte(first, '/')+1:]; use == "log" {
		name = fmt.Sprintf("%s/%d", first, number)
	} else if use == "witness" {
		algorithm = 4
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return k, err
	}
	k.Use, k.Key = use, estate.NoteKey(name, algorithm, public)
	k.NotBefore, k.NotAfter = now.Add(-time.Minute).UTC().Truncate(time.Second), now.Add(ServiceLife).UTC().Truncate(time.Second)
	return k, appendKey(path, estate.NoteSigner(name, algorithm, private))
}

// AddIdentity makes another identity for the custodian, puts it at the end of its file and returns its recipient. The custodian opens
// with it once it is told to read the file again, and goes on to open what was sealed before.
func (d *Dir) AddIdentity() (recipient string, err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	return identity.Recipient().String(), appendKey(d.Join(Custodian, "identity.age"), identity.String())
}

// appendKey adds a line to a key file, which keeps its owner and mode.
func appendKey(path, text string) error {
	f, err := plain.Open(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}
