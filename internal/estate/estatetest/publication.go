package estatetest

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// Published is what shows that a process's log has a lock: the entry, the only one of its log, and the checkpoint, cosigned by witnesses.
func (e *Estate) Published(t testing.TB, process string, lock [32]byte, witnesses ...string) (leaf, checkpoint []byte) {
	t.Helper()
	log, err := note.NewSigner(e.Signer("log", process))
	must(t, err)
	vkey, err := note.NewEd25519VerifierKey(log.Name(), e.Service["log "+process].Public().(ed25519.PublicKey))
	must(t, err)
	leaf = (&entry.Entry{V: 1, TimeNS: e.Now.UnixNano(), Type: entry.Publish, Log: entry.LogID(vkey), Estate: hex.EncodeToString(lock[:]), Reason: "lock"}).AppendJSON(nil)
	text := fmt.Sprintf("%s\n1\n%s\n", log.Name(), tlog.RecordHash(leaf))
	signers := []note.Signer{log}
	for _, w := range witnesses {
		signers = append(signers, e.Cosigner(t, w))
	}
	checkpoint, err = note.Sign(&note.Note{Text: text}, signers...)
	must(t, err)
	return leaf, checkpoint
}

// cosigner signs as a witness does (C2SP tlog-cosignature, cosignature/v1).
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
}

// Cosigner signs checkpoints as a witness.
func (e *Estate) Cosigner(t testing.TB, process string) note.Signer {
	t.Helper()
	part := strings.SplitN(e.Signer("witness", process), "+", 5)
	raw, err := base64.StdEncoding.DecodeString(part[4])
	must(t, err)
	var hash uint32
	_, err = fmt.Sscanf(part[3], "%08x", &hash)
	must(t, err)
	return &cosigner{part[2], hash, ed25519.NewKeyFromSeed(raw[1:])}
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

func (c *cosigner) Sign(text []byte) ([]byte, error) {
	now := uint64(time.Now().Unix())
	sig := ed25519.Sign(c.key, append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", now), text...))
	return append(binary.BigEndian.AppendUint64(nil, now), sig...), nil
}
