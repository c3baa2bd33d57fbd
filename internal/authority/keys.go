package authority

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/authority/token"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// feedKey is the signer of heartbeats and of signals.
type feedKey struct{ note.Signer }

// readKeys reads the feed key and, if there is one, the token key anew. A file may hold several, one a line, the newest last: the
// newest that the charter in force has is used, so that a key may be in its file before the charter has it.
func (a *Authority) readKeys(cfg *Config) error {
	_, signer, err := a.newest("feed", cfg.FeedKey)
	if err != nil {
		return fmt.Errorf("feed key: %w", err)
	}
	signs := a.tokenKey.Load()
	if cfg.TokenKey != "" {
		text, _, err := a.newest("token", cfg.TokenKey)
		if err != nil {
			return fmt.Errorf("token key: %w", err)
		}
		key, err := token.ParseKey(text)
		if err != nil {
			return fmt.Errorf("token key %s: %w", cfg.TokenKey, err)
		}
		signs = &key
	}
	a.key.Store(&feedKey{signer})
	a.tokenKey.Store(signs)
	return nil
}

// newest is the newest key of a file that the charter has for a use; when it has none, or before there is a set, the newest.
func (a *Authority) newest(use, path string) (text secret.Value, signer note.Signer, err error) {
	file, err := secret.ReadFile(path)
	if err != nil {
		return text, nil, err
	}
	named := false
	for line := range strings.Lines(string(file.Reveal())) {
		s, err := note.NewSigner(strings.TrimSpace(line))
		if err != nil {
			return text, nil, fmt.Errorf("%s: %w", path, err)
		}
		if now := a.enrolled(use, s); now || !named {
			text, signer, named = secret.New([]byte(strings.TrimSpace(line))), s, now
		}
	}
	if signer == nil {
		return text, nil, fmt.Errorf("%s is empty", path)
	}
	return text, signer, nil
}

// enrolled reports whether the charter in force has a key for a use of this process.
func (a *Authority) enrolled(use string, s note.Signer) bool {
	set := a.Set()
	if set == nil {
		return false
	}
	for _, k := range set.ServiceKeys(use, a.clock()) {
		if k.Process == a.id && strings.HasPrefix(k.Key, fmt.Sprintf("%s+%08x+", s.Name(), s.KeyHash())) {
			return true
		}
	}
	return false
}

// logKey reports whether the charter in force has a key of this process's ledger.
func (a *Authority) logKey(key ledger.Key) bool {
	return slices.ContainsFunc(a.Set().ServiceKeys("log", a.clock()), func(k statement.ServiceKey) bool {
		return k.Process == a.id && slices.Contains(key.Verifiers(), k.Key)
	})
}
