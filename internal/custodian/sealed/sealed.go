// Package sealed keeps the secrets that lifecycle owners handed to this custodian: encrypted with age on disk, decrypted once
// and held in memory. No secret leaves it without evidence that the intent to use it is durable.
package sealed

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

var (
	// ErrNotDurable refuses a secret to a caller whose intent is not on disk.
	ErrNotDurable = errors.New("no durable intent")
	// ErrCiphertext refuses a ciphertext that the handover does not name, or that does not open.
	ErrCiphertext = errors.New("the sealed secret does not fit its handover")
)

// Held is one version of a credential's secret. What is exported may be shown.
type Held struct {
	Credential  string
	Tenant      string // whose the credential was when it was handed over, and so the next
	Unit        string
	Version     int64
	Lease       string    // the version as entries have it: "v3"
	Created     time.Time // when the owner handed it over
	Fingerprint string    // keyed: tells equal secrets within this custodian and says nothing about their bytes
	secret      secret.Value
}

// Fetch returns the secret against evidence that the intent to use it is on disk.
func (h *Held) Fetch(d ledger.Durable) (secret.Value, error) {
	if !d.Valid() {
		return secret.Value{}, ErrNotDurable
	}
	return h.secret, nil
}

// Inspect shows the secret to what makes its use ready. look keeps nothing of it, and sends it nowhere.
func (h *Held) Inspect(look func(secret.Value) error) error { return look(h.secret) }

// Store is the secrets in a directory: <credential>/<version>.age with the handover beside it, older versions included.
// Safe for concurrent use.
type Store struct {
	dir       state.Dir
	custodian string
	key       atomic.Pointer[Key]
	mac       []byte // key of the fingerprints
	held      atomic.Pointer[map[string]*Held]
	mu        sync.Mutex // spans changes of held and of the directory
}

// Open reads and decrypts the newest version of every credential. What cannot be opened is left out and told in the second
// result, by credential.
func Open(dir state.Dir, custodian string, key *Key) (*Store, map[string]error, error) {
	s := &Store{dir: dir, custodian: custodian}
	s.key.Store(key)
	if err := s.fingerprintKey(); err != nil {
		return nil, nil, err
	}
	names, err := os.ReadDir(string(dir))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the sealed secrets: %w", err)
	}
	all, failed := map[string]*Held{}, map[string]error{}
	for _, n := range names {
		if !n.IsDir() {
			continue
		}
		h, err := s.load(n.Name())
		if err != nil {
			failed[n.Name()] = err
		} else if h != nil {
			all[n.Name()] = h
		}
	}
	s.held.Store(&all)
	return s, failed, nil
}

// Rekey takes the identities that were read anew. What was sealed to one that is gone stays in memory and is not opened at the next start.
func (s *Store) Rekey(key *Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key.Public == s.key.Load().Public && len(key.Older) == len(s.key.Load().Older) {
		return nil
	}
	s.key.Store(key)
	return s.rewrap()
}

// kept is what lies beside a ciphertext: the handover, and whose the credential was then.
type kept struct {
	statement.Handover
	Tenant string `json:"tenant"`
	Unit   string `json:"unit"`
}

// Of is Get for a unit: what another handed over while the name stood for a credential of its own is not this one's.
func (s *Store) Of(unit *statement.Unit, credential string) *Held {
	if h := s.Get(credential); h != nil && h.Tenant == unit.Tenant && h.Unit == unit.ID {
		return h
	}
	return nil
}

// Get returns what is held for a credential, or nil.
func (s *Store) Get(credential string) *Held { return (*s.held.Load())[credential] }

// Unseal opens what was encrypted to this custodian, such as the subject token in an access token. It never held a credential's secret.
func (s *Store) Unseal(ciphertext []byte) ([]byte, error) {
	r, err := s.key.Load().open(ciphertext)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 64<<10))
}

// Accept takes a handover that the set's owners signed, with its ciphertext. A version that is not above the one held
// changes nothing and returns nil: records come again after every restart.
func (s *Store) Accept(set *statement.Set, env *statement.Envelope, ciphertext []byte, now time.Time) (*Held, error) {
	signed, err := set.OpenHandover(env, s.custodian, now)
	if err != nil {
		return nil, err
	}
	record, unit, _ := set.Credential(signed.Credential) // OpenHandover has found it
	h := &kept{*signed, unit.Tenant, unit.ID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.Get(h.Credential); old != nil && h.Version <= old.Version || s.past(h) {
		return nil, nil
	}
	held, err := s.open(h, ciphertext)
	if err != nil {
		return nil, err
	}
	if err := seal.Fit(record, held.secret.Reveal()); err != nil {
		held.secret.Wipe()
		return nil, err
	}
	if err := s.save(h, ciphertext); err != nil {
		return nil, fmt.Errorf("keeping %s version %d: %w", h.Credential, h.Version, err)
	}
	next := maps.Clone(*s.held.Load())
	next[h.Credential] = held
	s.held.Store(&next)
	return held, nil
}

// open decrypts what the handover names.
func (s *Store) open(h *kept, ciphertext []byte) (*Held, error) {
	if seal.Sum(ciphertext) != h.SHA256 {
		return nil, fmt.Errorf("%w: %s version %d has another hash; hand it over again", ErrCiphertext, h.Credential, h.Version)
	}
	plain, err := s.decrypt(ciphertext, seal.MaxLen)
	if err != nil {
		return nil, fmt.Errorf("%w: %s version %d: %w; it was sealed to another custodian key", ErrCiphertext, h.Credential, h.Version, err)
	}
	held := &Held{h.Credential, h.Tenant, h.Unit, h.Version, Lease(h.Version), h.Created, s.Fingerprint(plain), secret.New(plain)}
	runtime.AddCleanup(held, func(plain []byte) { clear(plain) }, plain) // when the last who uses this version has gone
	return held, nil
}

// Lease is how entries name a version that was handed over.
func Lease(version int64) string { return "v" + strconv.FormatInt(version, 10) }

// Number is the version that Lease named; 0 for another's name.
func Number(lease string) int64 {
	n, err := strconv.ParseInt(strings.TrimPrefix(lease, "v"), 10, 64)
	if err != nil || Lease(n) != lease {
		return 0
	}
	return n
}

// decrypt opens at most most bytes and one more.
func (s *Store) decrypt(ciphertext []byte, most int) ([]byte, error) {
	r, err := s.key.Load().open(ciphertext)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, most+1) // one buffer, so that no copy of the secret is left behind by growing
	n, err := io.ReadFull(r, plain)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(plain)
		return nil, err
	}
	return plain[:n:n], nil
}

// Fingerprint tells whether two secrets are equal to whoever has the custodian's key, and nothing to anybody else.
func (s *Store) Fingerprint(plain []byte) string {
	m := hmac.New(sha256.New, s.mac)
	m.Write(plain)
	return hex.EncodeToString(m.Sum(nil)[:8])
}

// save writes the ciphertext and then the handover, whose presence makes the version count.
func (s *Store) save(h *kept, ciphertext []byte) error {
	dir, err := s.Dir(h.Credential)
	if err != nil {
		return err
	}
	record, err := json.Marshal(h)
	if err != nil {
		return err
	}
	version := strconv.FormatInt(h.Version, 10)
	if err := dir.Replace(version+".age", ciphertext); err != nil {
		return err
	}
	return dir.Replace(version+".json", record)
}

// load opens the newest version in a credential's directory; nil when it holds none.
func (s *Store) load(credential string) (*Held, error) {
	dir, err := s.dir.Sub(credential)
	if err != nil {
		return nil, err
	}
	version, err := newest(dir)
	if version == 0 || err != nil {
		return nil, err
	}
	return s.version(dir, credential, version)
}

// Version opens any version of a unit's credential that was not destroyed.
func (s *Store) Version(unit *statement.Unit, credential string, version int64) (*Held, error) {
	dir, err := s.Dir(credential)
	if err != nil {
		return nil, err
	}
	h, err := s.version(dir, credential, version)
	if err == nil && (h == nil || h.Tenant != unit.Tenant || h.Unit != unit.ID) {
		h, err = nil, fmt.Errorf("%w: %s version %d is not there any more", ErrCiphertext, credential, version)
	}
	return h, err
}

// version opens a version; nil when it was destroyed.
func (s *Store) version(dir state.Dir, credential string, version int64) (*Held, error) {
	name := strconv.FormatInt(version, 10)
	record, err := dir.Read(name + ".json")
	if err != nil {
		return nil, err
	}
	var h kept
	if err := json.Unmarshal(record, &h); err != nil {
		return nil, fmt.Errorf("reading %s: %w", dir.Path(name+".json"), err)
	}
	if h.Credential != credential || h.Version != version || h.Custodian != s.custodian {
		return nil, fmt.Errorf("%w: %s names %s version %d for %s", ErrCiphertext, dir.Path(name+".json"), h.Credential, h.Version, h.Custodian)
	}
	ciphertext, err := dir.Read(name + ".age")
	if err != nil || ciphertext != nil && len(ciphertext) == 0 {
		return nil, err
	}
	return s.open(&h, ciphertext)
}

// Destroy forgets a version's ciphertext. Its record stays, so that it does not come back.
func (s *Store) Destroy(credential string, version int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, err := s.Dir(credential)
	if err != nil {
		return err
	}
	if err := dir.Replace(strconv.FormatInt(version, 10)+".age", nil); err != nil {
		return err
	}
	if held := s.Get(credential); held != nil && held.Version == version {
		next := maps.Clone(*s.held.Load())
		delete(next, credential)
		s.held.Store(&next)
	}
	return nil
}

// past reports whether a newer version came before, or this one was destroyed. It needs mu.
func (s *Store) past(h *kept) bool {
	dir, err := s.Dir(h.Credential)
	if err != nil {
		return false
	}
	last, err := newest(dir)
	if err != nil || h.Version != last {
		return err == nil && h.Version < last
	}
	text, err := dir.Read(strconv.FormatInt(last, 10) + ".age")
	return err == nil && text != nil && len(text) == 0
}

func newest(dir state.Dir) (int64, error) {
	names, err := os.ReadDir(string(dir))
	if err != nil {
		return 0, err
	}
	versions := []int64{0}
	for _, n := range names {
		if v, ok := strings.CutSuffix(n.Name(), ".json"); ok {
			if version, err := strconv.ParseInt(v, 10, 64); err == nil {
				versions = append(versions, version)
			}
		}
	}
	return slices.Max(versions), nil
}

// fingerprintKey reads the key of the fingerprints, or makes one. It lies encrypted to the custodian itself.
func (s *Store) fingerprintKey() error {
	text, err := s.dir.Read(fingerprintFile)
	if err != nil {
		return fmt.Errorf("reading the fingerprint key: %w", err)
	}
	if text != nil {
		s.mac, err = s.decrypt(text, sha256.Size)
		if err == nil && len(s.mac) != sha256.Size {
			err = errors.New("wrong length")
		}
		if err != nil {
			return fmt.Errorf("opening %s: %w; it belongs to another identity: put the identity or the directory back from a backup", s.dir.Path(fingerprintFile), err)
		}
		if len(s.key.Load().Older) == 0 {
			return nil
		}
		return s.rewrap() // the older identity may be gone at the next start
	}
	s.mac = make([]byte, sha256.Size)
	rand.Read(s.mac) // never fails since Go 1.24
	return s.keepFingerprintKey()
}

const fingerprintFile = "fingerprint.age"

// keepFingerprintKey writes the key of the fingerprints, encrypted to the newest identity.
func (s *Store) keepFingerprintKey() error {
	if err := s.keep(s.dir, fingerprintFile, s.mac); err != nil {
		return fmt.Errorf("keeping the fingerprint key: %w", err)
	}
	return nil
}

// keep writes a file of the custodian's own, encrypted to its newest identity.
func (s *Store) keep(dir state.Dir, name string, plain []byte) error {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, s.key.Load().Recipient)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = dir.Replace(name, out.Bytes())
	}
	return err
}

// Rewrap writes what was opened again, encrypted to the newest identity, when there are older ones: those may be gone at the next start.
func (s *Store) Rewrap(dir state.Dir, name string, plain []byte) error {
	if len(s.key.Load().Older) == 0 {
		return nil
	}
	return s.keep(dir, name, plain)
}

// safe reports whether a name can be one directory's.
func safe(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsAny(name, "/\\\x00")
}
