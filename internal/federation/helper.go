package federation

import (
	"bufio"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

// Helper speaks docs/formats/helper.md with keys in a store: a TPM, from which they cannot be taken, or files, for tests and as an example.
type Helper struct {
	dir   string // <unit>/<kid> and the store's suffix
	store store
}

// store is where a helper's keys are. What it keeps of a key is in a file; opaque is what only the store can use.
type store interface {
	suffix() string
	create(algorithm string) (opaque []byte, public crypto.PublicKey, err error)
	public(opaque []byte) (public crypto.PublicKey, algorithm string, err error)
	// sign gives r and s, 32 bytes each, for ES256 (RFC 7518, section 3.4), and PKCS #1 v1.5 for RS256, over a SHA-256 digest.
	sign(opaque, digest []byte) ([]byte, error)
}

// NewHelper opens the helper's folder, and makes it where it is not there. device is a TPM 2.0: a character device such as /dev/tpmrm0, or the
// Unix socket of one in software; with an empty one the keys are in files.
func NewHelper(dir, device string) (*Helper, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the keys: %w", err)
	}
	if device == "" {
		return &Helper{dir, files{}}, nil
	}
	return &Helper{dir, &tpm{device: device}}, nil
}

// NewKey makes a key for a unit and returns its public JWK.
func (h *Helper) NewKey(unit, algorithm string) (jwk string, err error) {
	if !statement.ValidID(unit) {
		return "", fmt.Errorf("%w: %q", errUnit, unit)
	}
	opaque, public, err := h.store.create(algorithm)
	if err != nil {
		return "", err
	}
	defer clear(opaque)
	jwk, kid, err := Public(public, algorithm)
	if err != nil {
		return "", err
	}
	path := h.path(unit, kid)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("making the folder of the key: %w", err)
	}
	return jwk, durable.Create(path, opaque, 0o600)
}

// most is how many clients are served at once, and patience how long each may take.
const (
	most     = 16
	patience = 5 * time.Second
)

// Serve answers until ctx ends: one line with a question on each connection, one line with the answer. Several clients are served at once, so
// that a slow one keeps nobody else waiting; the seventeenth waits. It returns when the last one was served.
func (h *Helper) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var clients sync.WaitGroup
	defer clients.Wait()
	free := make(chan struct{}, most)
	for {
		c, err := l.Accept()
		if err != nil {
			return context.Cause(ctx)
		}
		free <- struct{}{} // for patience at most
		clients.Go(func() {
			defer func() { <-free }()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			h.serve(c)
		})
	}
}

func (h *Helper) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	line, err := bufio.NewReaderSize(io.LimitReader(c, 64<<10), 64<<10).ReadBytes('\n')
	if err == nil {
		json.NewEncoder(c).Encode(h.answer(line)) // who hung up hears nothing
	}
}

type publicKey struct {
	ID  string          `json:"id"`
	JWK json.RawMessage `json:"jwk"`
}

type helperAnswer struct {
	Keys      []publicKey `json:"keys,omitempty"`
	Signature []byte      `json:"signature,omitempty"`
	Error     string      `json:"error,omitempty"`
}

func (h *Helper) answer(line []byte) (a helperAnswer) {
	var q struct {
		Keys   string `json:"keys"`
		Sign   string `json:"sign"`
		Digest []byte `json:"digest"`
	}
	err := json.Unmarshal(line, &q)
	switch {
	case err != nil:
	case q.Keys != "" && q.Sign == "":
		a.Keys, err = h.list(q.Keys)
	case q.Sign != "" && q.Keys == "" && len(q.Digest) == sha256.Size:
		a.Signature, err = h.sign(q.Sign, q.Digest)
	default:
		err = errors.New("ask for keys of a unit, or to sign a SHA-256 digest")
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

func (h *Helper) list(unit string) (all []publicKey, err error) {
	if !statement.ValidID(unit) {
		return nil, errUnit
	}
	paths, err := filepath.Glob(h.path(unit, "*"))
	for _, path := range paths {
		opaque, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		public, algorithm, err := h.store.public(opaque)
		clear(opaque)
		if err != nil {
			return nil, fmt.Errorf("%s is not a key of this helper: %w", path, err)
		}
		jwk, kid, err := Public(public, algorithm)
		if err != nil {
			return nil, err
		}
		all = append(all, publicKey{unit + "/" + kid, json.RawMessage(jwk)})
	}
	return all, err
}

var (
	errNoKey = errors.New("there is no such key")
	errUnit  = errors.New("not a unit: lower-case letters, digits and dashes, at most 63")
)

func (h *Helper) sign(id string, digest []byte) ([]byte, error) {
	unit, kid, _ := strings.Cut(id, "/")
	if sum, err := base64.RawURLEncoding.DecodeString(kid); !statement.ValidID(unit) || err != nil || len(sum) != sha256.Size {
		return nil, errNoKey
	}
	opaque, err := os.ReadFile(h.path(unit, kid))
	if err != nil {
		return nil, errNoKey
	}
	defer clear(opaque)
	return h.store.sign(opaque, digest)
}

// path is where a unit's key is. Both names were checked.
func (h *Helper) path(unit, kid string) string {
	return filepath.Join(h.dir, unit, kid+h.store.suffix())
}
