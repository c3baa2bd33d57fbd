package federation

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/durable"
)

// Helper is the reference for docs/formats/helper.md: it keeps keys in files. What stands in its place has them in a TPM, a PKCS #11
// token or a key service, from where they cannot be taken.
type Helper struct {
	dir string // <unit>/<kid>.pk8
}

// NewHelper opens the helper's folder, and makes it where it is not there.
func NewHelper(dir string) (*Helper, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the keys: %w", err)
	}
	return &Helper{dir}, nil
}

// NewKey makes a key for a unit and returns its public JWK.
func (h *Helper) NewKey(unit, algorithm string) (jwk string, err error) {
	private, err := generate(algorithm)
	if err != nil {
		return "", err
	}
	jwk, kid, err := Public(private.Public(), algorithm)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", err
	}
	defer clear(der)
	if err := os.MkdirAll(filepath.Join(h.dir, unit), 0o700); err != nil {
		return "", fmt.Errorf("making the folder of the key: %w", err)
	}
	return jwk, durable.Create(filepath.Join(h.dir, unit, kid+".pk8"), der, 0o600)
}

// Serve answers until ctx ends: one line with a question on each connection, one line with the answer.
func (h *Helper) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if err != nil {
			return context.Cause(ctx)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		line, err := bufio.NewReaderSize(io.LimitReader(c, 64<<10), 64<<10).ReadBytes('\n')
		if err == nil {
			json.NewEncoder(c).Encode(h.answer(line)) // who hung up hears nothing
		}
		c.Close()
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
	paths, err := filepath.Glob(filepath.Join(h.dir, filepath.Base(unit), "*.pk8"))
	for _, path := range paths {
		private, algorithm, err := h.read(path)
		if err != nil {
			return nil, err
		}
		jwk, kid, err := Public(private.Public(), algorithm)
		if err != nil {
			return nil, err
		}
		all = append(all, publicKey{filepath.Base(unit) + "/" + kid, json.RawMessage(jwk)})
	}
	return all, err
}

func (h *Helper) read(path string) (crypto.Signer, string, error) {
	der, err := os.ReadFile(path)
	if err != nil {
		return nil, "", errors.New("there is no such key")
	}
	defer clear(der)
	private, err := x509.ParsePKCS8PrivateKey(der)
	switch k := private.(type) {
	case *ecdsa.PrivateKey:
		return k, "ES256", nil
	case *rsa.PrivateKey:
		return k, "RS256", nil
	}
	return nil, "", fmt.Errorf("%s is not a key of this helper: %w", path, err)
}

// sign gives r and s, 32 bytes each, for ES256 (RFC 7518, section 3.4), and PKCS #1 v1.5 for RS256.
func (h *Helper) sign(id string, digest []byte) ([]byte, error) {
	unit, kid, ok := strings.Cut(id, "/")
	if !ok || filepath.Base(unit) != unit || filepath.Base(kid) != kid {
		return nil, errors.New("there is no such key")
	}
	private, _, err := h.read(filepath.Join(h.dir, unit, kid+".pk8"))
	if err != nil {
		return nil, err
	}
	k, ok := private.(*ecdsa.PrivateKey)
	if !ok {
		return private.Sign(rand.Reader, digest, crypto.SHA256)
	}
	r, s, err := ecdsa.Sign(rand.Reader, k, digest)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}
