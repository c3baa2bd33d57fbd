package sidecar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/pop"
)

// Vouch is what a request shows of who sends it.
type Vouch struct {
	Token  string      // empty with an X.509-SVID
	Signer *pop.Signer // nil for a token alone
}

// Source gives what vouches for the workload now. Safe for concurrent use.
type Source interface {
	Vouch(ctx context.Context) (Vouch, error)
}

// Fetch gets a token.
type Fetch func(ctx context.Context) (string, error)

const (
	maxToken = 16 << 10         // bytes
	ownLife  = 15 * time.Minute // of a token that the workload signs itself
	patience = 30 * time.Second // for a command or an authority
	again    = 10 * time.Second // between attempts to get a newer token
)

// claims are what is read of a token, unverified: who verifies it is the custodian.
type claims struct {
	Expiry       float64 `json:"exp"`
	Confirmation struct {
		JKT string `json:"jkt"`
	} `json:"cnf"`
}

// held keeps a token and gets the next one ahead of its end.
type held struct {
	fetch Fetch
	key   *pop.Signer // that the token must be bound to, or nil
	now   func() time.Time

	one chan struct{} // whoever fetches holds its place

	mu    sync.Mutex // guards what follows
	token string
	renew time.Time // from when on a newer one is wanted
	ends  time.Time
}

func newHeld(fetch Fetch, key *pop.Signer, now func() time.Time) *held {
	return &held{fetch: fetch, key: key, now: now, one: make(chan struct{}, 1)}
}

// Vouch implements Source.
func (h *held) Vouch(ctx context.Context) (Vouch, error) {
	token, late := h.current()
	if token != "" {
		if late {
			go h.ahead()
		}
		return Vouch{token, h.key}, nil
	}
	select {
	case h.one <- struct{}{}:
	case <-ctx.Done():
		return Vouch{}, context.Cause(ctx)
	}
	defer func() { <-h.one }()
	if token, _ := h.current(); token != "" { // another call fetched it
		return Vouch{token, h.key}, nil
	}
	token, err := h.next(ctx)
	return Vouch{token, h.key}, err
}

// current is the token that is held, if it is good, and whether a newer one is wanted.
func (h *held) current() (token string, late bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if h.token == "" || !now.Before(h.ends) {
		return "", false
	}
	return h.token, !now.Before(h.renew)
}

// ahead gets the next token while the last one is still good. Errors show when it is not any more.
func (h *held) ahead() {
	select {
	case h.one <- struct{}{}:
	default:
		return // somebody does
	}
	defer func() { <-h.one }()
	if _, late := h.current(); !late {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := h.next(ctx); err != nil {
		h.mu.Lock()
		h.renew = h.now().Add(again)
		h.mu.Unlock()
	}
}

// next fetches a token and keeps it. The caller holds one.
func (h *held) next(ctx context.Context) (string, error) {
	token, err := h.fetch(ctx)
	if err != nil {
		return "", err
	}
	c, err := read(token, h.key)
	if err != nil {
		return "", err
	}
	now := h.now()
	ends := time.Unix(int64(c.Expiry), 0)
	if !now.Before(ends) {
		return "", fmt.Errorf("the token ended at %s: get a new one to where the sidecar finds it, or compare the clocks", ends.UTC().Format(time.RFC3339))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renew = now.Add(ends.Sub(now) * 2 / 3)
	if token == h.token { // nothing newer yet
		h.renew = now.Add(again)
	}
	h.token, h.ends = token, ends
	return token, nil
}

// drop forgets a token that was refused.
func (h *held) drop(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.token == token {
		h.token = ""
	}
}

// read reads a token's end and binding. With a key it must be bound to it, and without one to none: else it would be refused later,
// with less to say.
func read(token string, key *pop.Signer) (c claims, err error) {
	if len(token) > maxToken {
		return c, fmt.Errorf("the token has more than %d bytes", maxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return c, errors.New("the token is not a JWT in compact form")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &c) != nil || c.Expiry <= 0 || c.Expiry > 1<<40 {
		return c, errors.New("the token is not a JWT with exp")
	}
	jkt := c.Confirmation.JKT
	switch {
	case key == nil && jkt != "":
		return c, fmt.Errorf("the token is bound to the key %s, and the configuration names no key: nobody takes it without that key's signature", jkt)
	case key != nil && jkt == "":
		return c, fmt.Errorf("the token is bound to no key, so a signature with the key %s proves nothing: have its issuer put cnf.jkt into it, or leave key out and be W1", key.KeyID())
	case key != nil && jkt != key.KeyID():
		return c, fmt.Errorf("the token is bound to the key %s, and the sidecar holds %s", jkt, key.KeyID())
	}
	return c, nil
}

// file is a token that is read anew at every request.
type file struct {
	path string
	key  *pop.Signer
}

// Vouch implements Source.
func (f file) Vouch(context.Context) (Vouch, error) {
	token, err := readToken(f.path)
	if err == nil {
		_, err = read(token, f.key)
	}
	return Vouch{token, f.key}, err
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("opening the token: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+2))
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// command runs a program that prints a token. What it prints is not logged.
func command(args []string) Fetch {
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &limited{&out, maxToken + 2}, os.Stderr
		cmd.WaitDelay = time.Second
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("the token's command %s: %w", args[0], err)
		}
		return strings.TrimSpace(out.String()), nil
	}
}

// limited is a writer that fails behind so many bytes.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("it prints more than a token")
	}
	return l.to.Write(p)
}

// own signs a token with the workload's key, bound to that key (RFC 7523 section 3, RFC 9449 section 6.1).
func own(key crypto.Signer, issuer, audience string, now func() time.Time) Fetch {
	return func(context.Context) (string, error) {
		id, err := pop.Thumbprint(key.Public())
		if err != nil {
			return "", err
		}
		at := now().Unix()
		return signJWT(key, map[string]any{
			"iss": issuer, "sub": issuer, "aud": audience, "iat": at, "exp": at + int64(ownLife/time.Second), "jti": rand.Text(), "cnf": map[string]string{"jkt": id},
		}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", id))
	}
}

func signJWT(key crypto.Signer, claims any, o *jose.SignerOptions) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm(key), Key: key}, o)
	if err != nil {
		return "", fmt.Errorf("signing with the workload's key: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing with the workload's key: %w", err)
	}
	return jws.CompactSerialize()
}
