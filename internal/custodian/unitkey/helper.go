package unitkey

import (
	"bufio"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/reevehq/reeve/internal/workload/jwks"
)

// Helper is a process that keeps keys where they cannot be taken out: a TPM, a PKCS #11 token, a key service. It listens on a Unix
// socket and speaks the protocol of docs/formats/helper.md.
type Helper struct {
	Socket string
}

const (
	helperPatience = 5 * time.Second
	maxLine        = 64 << 10
)

// helperKey is a key in the helper.
type helperKey struct {
	helper *Helper
	id     string
	public crypto.PublicKey
}

func (k *helperKey) Public() crypto.PublicKey { return k.public }
func (k *helperKey) sealed() bool             { return true }

// Sign has the helper sign a digest.
func (k *helperKey) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	var answer struct {
		Signature []byte `json:"signature"`
	}
	err := k.helper.ask(ctx, map[string]any{"sign": k.id, "digest": digest}, &answer)
	if err == nil && len(answer.Signature) == 0 {
		err = errors.New("the helper gave no signature")
	}
	return answer.Signature, err
}

// keys are those that the helper has for a unit.
func (h *Helper) keys(ctx context.Context, unit string) ([]key, error) {
	var answer struct {
		Keys []struct {
			ID  string          `json:"id"`
			JWK json.RawMessage `json:"jwk"`
		} `json:"keys"`
	}
	if err := h.ask(ctx, map[string]any{"keys": unit}, &answer); err != nil {
		return nil, err
	}
	var all []key
	for _, k := range answer.Keys {
		set, err := jwks.Parse(fmt.Appendf(nil, `{"keys":[%s]}`, k.JWK))
		if err != nil || len(set.Keys) != 1 {
			return nil, errors.New("it answers with what is not a public key")
		}
		all = append(all, &helperKey{h, k.ID, set.Keys[0].Public})
	}
	return all, nil
}

// ask sends one line and reads one.
func (h *Helper) ask(ctx context.Context, request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, helperPatience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", h.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := json.NewEncoder(c).Encode(request); err != nil {
		return err
	}
	line, err := bufio.NewReaderSize(io.LimitReader(c, maxLine), maxLine).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no whole answer: %w", err)
	}
	var refusal struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(line, &refusal); err != nil || refusal.Error != "" {
		return fmt.Errorf("it refuses: %.100q", refusal.Error)
	}
	return json.Unmarshal(line, answer)
}
