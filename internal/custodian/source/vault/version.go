package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/vault/api"
	"github.com/reevehq/reeve/internal/ledger"
)

// versioned reads the newest version of what a key-value engine of version 2 holds.
type versioned struct{ engine }

// Fetch implements source.Source. The lease is VERSION@CREATED, because a path that was deleted counts from 1 again.
func (s *versioned) Fetch(ctx context.Context, d ledger.Durable, _ source.Ask) (*source.Secret, error) {
	asked := s.cfg.Clock()
	a, _, err := s.Call(ctx, d, "GET", s.Path(), nil, "read "+s.Path())
	if err != nil {
		return nil, err
	}
	defer a.Wipe()
	var meta struct {
		Created   time.Time `json:"created_time"`
		Deletion  string    `json:"deletion_time"` // when it will be deleted; empty for never
		Destroyed bool      `json:"destroyed"`
		Version   int64     `json:"version"`
	}
	inner := &api.Answer{}
	defer inner.Wipe()
	if json.Unmarshal(a.Data["metadata"], &meta) != nil || json.Unmarshal(a.Data["data"], &inner.Data) != nil || meta.Version < 1 || meta.Created.IsZero() || meta.Destroyed {
		return nil, api.Malformed("no version of a kv2 engine; for other engines from.parameters.engine is lease")
	}
	got := &source.Secret{Lease: fmt.Sprintf("%d@%s", meta.Version, meta.Created.UTC().Format(time.RFC3339Nano)), Issued: asked}
	if meta.Deletion != "" {
		if got.Expires, err = time.Parse(time.RFC3339, meta.Deletion); err != nil || !got.Expires.After(asked) {
			return nil, api.Malformed("a version that is deleted at no time to come")
		}
	}
	if err := s.fill(got, inner); err != nil {
		return nil, err
	}
	return got, nil
}

// Copies implements source.Copier.
func (s *versioned) Copies() {}

// Revoke implements source.Source. What a key-value engine holds is a copy, which it can destroy; the secret ends only where it was made.
func (s *versioned) Revoke(ctx context.Context, d ledger.Durable, old *source.Secret) error {
	text, _, _ := strings.Cut(old.Lease, "@")
	version, err := strconv.ParseUint(text, 10, 63)
	if s.parameter("destroy") == "" || err != nil {
		return fmt.Errorf("%w: a key-value engine holds copies; end the secret where it was made", source.ErrCannotRevoke)
	}
	path := strings.Replace(s.Path(), "/data/", "/destroy/", 1)
	if _, _, err := s.Call(ctx, d, "POST", path, fmt.Appendf(nil, `{"versions":[%d]}`, version), "destroy a version"); err != nil {
		return err
	}
	return fmt.Errorf("%w: version %d is destroyed in the vault; end the secret where it was made", source.ErrCannotRevoke, version)
}
