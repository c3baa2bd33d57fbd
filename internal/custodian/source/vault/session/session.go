// Package session makes calls to OpenBao or HashiCorp Vault under a login that it makes, renews, makes again and gives back.
package session

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/vault/api"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// parting is how long giving logins back may take: what closes a source does not wait for a server that hangs.
const parting = time.Second

// Session is one server, login after login. Safe for concurrent use.
type Session struct {
	cfg    source.Config
	api    *api.Client
	method method

	open  context.Context // until Close
	shut  context.CancelFunc
	calls sync.RWMutex  // held for reading by every call but those of Close
	turn  chan struct{} // held by who changes logins

	logins []*Login // that may be alive; the last is in use
}

// New returns a session for a record that custody.Check has passed. It makes no connection.
func New(cfg source.Config) (*Session, error) {
	c, err := api.New(cfg)
	if err != nil {
		return nil, err
	}
	s := &Session{cfg: cfg, api: c, method: readMethod(cfg.Record.From.Parameters), turn: make(chan struct{}, 1)}
	s.open, s.shut = context.WithCancel(context.Background())
	return s, nil
}

// Path is what the record's URL names below /v1/.
func (s *Session) Path() string { return s.api.Path }

// Call makes one call to a path below /v1/ under the login in use, or a new one where that is due or was revoked by somebody. It returns the
// login too. does is what for, for errors. A refusal with status 403 may have been sent twice, under different logins.
func (s *Session) Call(ctx context.Context, d ledger.Durable, method, path string, body []byte, does string) (*api.Answer, *Login, error) {
	for {
		l, fresh, err := s.login(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		a, err := s.call(ctx, method, path, l.token, body, does)
		if api.Status(err) != 403 || fresh || s.drop(ctx, l) != nil {
			return a, l, err
		}
	}
}

// call makes one call that ends when the session is closed.
func (s *Session) call(ctx context.Context, method, path string, token secret.Value, body []byte, does string) (*api.Answer, error) {
	s.calls.RLock()
	defer s.calls.RUnlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.open, cancel)()
	return s.api.Call(ctx, method, path, token, body, does)
}

// enter waits for the turn.
func (s *Session) enter(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		if s.open.Err() == nil && ctx.Err() == nil {
			return nil
		}
		s.leave()
	case <-ctx.Done():
	case <-s.open.Done():
	}
	if s.open.Err() != nil {
		return fmt.Errorf("%w: the source is closed", source.ErrDown)
	}
	return fmt.Errorf("%w: %w", source.ErrDown, ctx.Err())
}

func (s *Session) leave() { <-s.turn }

// Close ends every call, then gives the logins back, as far as the server answers in time. It revokes their leases then.
func (s *Session) Close() {
	s.shut()
	s.turn <- struct{}{}
	defer s.leave()
	s.calls.Lock()
	defer s.calls.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), parting)
	defer cancel()
	for _, l := range s.logins {
		s.logout(ctx, l)
	}
	s.logins = nil
	s.api.Close()
}
