package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/vault/api"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// unwrapped returns what was in the wrapping that the owner handed over, for the caller to wipe. A wrapping opens once, so what was in it is in
// State before it is used: the SHA-256 of the wrapping token, and behind that what it held; nothing is behind it while it is being opened.
func (s *Session) unwrapped(ctx context.Context, d ledger.Durable) (secret.Value, error) {
	if s.cfg.Record.From.Home != s.cfg.Custodian {
		return secret.Value{}, source.ErrHome
	}
	wrapping, err := s.cfg.Root(d)
	if err != nil {
		return secret.Value{}, err
	}
	sum := sha256.Sum256(wrapping.Reveal())
	state, err := s.cfg.State.Load()
	if err != nil {
		return secret.Value{}, err
	}
	defer state.Wipe()
	stored, tried := bytes.CutPrefix(state.Reveal(), sum[:])
	if len(stored) > 0 && tried {
		return secret.New(bytes.Clone(stored)), nil
	}
	if err := s.expected(ctx, wrapping, tried); err != nil {
		return secret.Value{}, err
	}
	if err := s.cfg.State.Save(secret.New(bytes.Clone(sum[:]))); err != nil {
		return secret.Value{}, err
	}
	inner, err := s.unwrap(ctx, wrapping, tried)
	if err != nil {
		return secret.Value{}, err
	}
	next := secret.New(append(sum[:], inner.Reveal()...))
	defer next.Wipe()
	if err := s.cfg.State.Save(next); err != nil {
		inner.Wipe()
		return secret.Value{}, fmt.Errorf("the wrapping is open and what was in it could not be stored: hand over another one: %w", err)
	}
	return inner, nil
}

// expected looks at the wrapping without opening it. One that another path made holds what somebody put there.
func (s *Session) expected(ctx context.Context, wrapping secret.Value, tried bool) error {
	body, err := api.Object([]byte("token"), wrapping.Reveal())
	if err != nil {
		return err
	}
	defer clear(body)
	a, err := s.call(ctx, "POST", "sys/wrapping/lookup", secret.Value{}, body, "look at the wrapping")
	if err != nil {
		return opened(err, tried)
	}
	defer a.Wipe()
	path, err := a.Text("creation_path")
	if err != nil {
		return err
	}
	if !path.Equal([]byte(s.method.wrapped)) {
		return fmt.Errorf("%w: the wrapping was not made by %s: somebody may have put another one in its place; nothing was opened", source.ErrRefused, s.method.wrapped)
	}
	return nil
}

func (s *Session) unwrap(ctx context.Context, wrapping secret.Value, tried bool) (secret.Value, error) {
	a, err := s.call(ctx, "POST", "sys/wrapping/unwrap", wrapping, []byte("{}"), "open the wrapping")
	if err != nil {
		return secret.Value{}, opened(err, tried)
	}
	defer a.Wipe()
	return a.Text("secret_id")
}

// opened says what it means that a wrapping does not open: the server answers 400 or 403 to one that was opened or ran out.
func opened(err error, tried bool) error {
	if api.Status(err) == 0 {
		return err
	}
	by := "somebody else holds what was in it"
	if tried {
		by = "either this custodian did, and ended before it had stored what was in it, or somebody else did"
	}
	return fmt.Errorf("%w: the wrapping was opened before, or ran out (status %d): if it was opened, %s: destroy that secret id at the vault, look in its audit log, and hand over another",
		source.ErrRefused, api.Status(err), by)
}
