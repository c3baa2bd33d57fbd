// Package federation makes what a unit needs to federate, on the custodian's host and for its owners: keys that only the custodian can
// open, and the part of the custody statement that names them. It cannot open a key that it made.
package federation

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/plain"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/statement"
)

// NewKey makes a key for a unit in dir, the custodian's folder of federation keys, encrypted to the custodian's recipient, and returns
// its public JWK (RFC 7517) on one line. algorithm is ES256 or RS256. A custodian that runs takes the key up on SIGHUP.
func NewKey(dir, unit, algorithm, recipient string) (jwk string, err error) {
	if !statement.ValidID(unit) {
		return "", fmt.Errorf("%w: %q", errUnit, unit)
	}
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
	text, err := seal.Encrypt(der, recipient)
	if err != nil {
		return "", err
	}
	state, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return "", fmt.Errorf("the custodian's state: %w", err)
	}
	defer state.Close()
	keys, err := plain.FolderIn(state, filepath.Base(dir), 0o700)
	if err != nil {
		return "", fmt.Errorf("making the folder of the keys: %w", err)
	}
	defer keys.Close()
	folder, err := plain.FolderIn(keys, unit, 0o700)
	if err != nil {
		return "", fmt.Errorf("making the folder of the key: %w", err)
	}
	defer folder.Close()
	if err := plain.Create(folder, kid+".age", text, 0o600); err != nil {
		return "", fmt.Errorf("writing the key: %w", err)
	}
	return jwk, nil
}

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256":
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("a federation key is for ES256 or RS256, not for %q", algorithm)
}

// Public is a public key as a JWK on one line; its kid is the thumbprint (RFC 7638).
func Public(key crypto.PublicKey, algorithm string) (text, kid string, err error) {
	k := jose.JSONWebKey{Key: key, Algorithm: algorithm, Use: "sig"}
	thumb, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", "", err
	}
	k.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
	b, err := json.Marshal(k)
	return string(b), k.KeyID, err
}
