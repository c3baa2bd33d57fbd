// Package inventory says of every credential, as of a time and from the auditor's books alone, who answers for it, how long its secrets live, and when
// it was last used.
package inventory

import (
	"context"
	"fmt"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// Row is one credential.
type Row struct {
	Credential string `json:"credential"`
	Unit       string `json:"unit"`  // that owns it; empty for a secret of no credential
	Owner      string `json:"owner"` // who answers for it; empty when it is orphaned
	Named      string `json:"named"` // whom the statement names
	Class      string `json:"class,omitempty"`
	Source     string `json:"source,omitempty"`

	Orphaned bool `json:"orphaned"` // nobody live answers for it
	Static   bool `json:"static"`   // its secrets live a day or more, or until somebody ends them
	Stale    bool `json:"stale"`    // nobody has used it for so long

	Live    int           `json:"live"`            // versions of its secret that may work, as far as custodians know
	Oldest  time.Time     `json:"oldest,omitzero"` // since when the oldest of them is there
	LastUse time.Time     `json:"last_use,omitzero"`
	Uses    int64         `json:"uses"`           // since the ledgers begin
	Refs    []control.Ref `json:"refs,omitempty"` // its newest use, and what is live
}

// Inventory is every credential, those of the statements first.
type Inventory struct {
	AsOf        time.Time `json:"as_of"`
	Since       time.Time `json:"since,omitzero"` // begin of the ledgers: what was used before is not known
	Credentials []Row     `json:"credentials"`
}

// Static is how long a secret lives at least that counts as static.
const Static = 24 * time.Hour

// List lists every credential that the statements had in force at a time, and those secrets that were live then and are of none. stale is for how long
// nobody has used what counts as stale. The error is history.ErrBefore where the signed store does not reach back.
func List(ctx context.Context, b *books.Books, asOf time.Time, stale time.Duration) (*Inventory, error) {
	span, err := b.History.At(asOf)
	if err != nil {
		return nil, err
	}
	to := asOf.Add(1)
	uses, err := b.Index.Uses(ctx, index.Filter{To: to, Types: []entry.Type{entry.Intent}}, index.ByCredential, index.ByLog)
	if err != nil {
		return nil, fmt.Errorf("reading the uses of credentials: %w", err)
	}
	versions, err := b.Index.Versions(ctx, index.Filter{From: asOf, To: to})
	if err != nil {
		return nil, fmt.Errorf("reading the versions of secrets: %w", err)
	}
	all, err := b.Index.Logs(ctx)
	if err != nil {
		return nil, err
	}
	v := &Inventory{AsOf: asOf.UTC(), Credentials: []Row{}}
	for _, l := range all {
		if first := time.Unix(0, l.First).UTC(); l.Size > 0 && (v.Since.IsZero() || first.Before(v.Since)) {
			v.Since = first
		}
	}
	rows, order := map[string]*Row{}, []string{}
	for _, u := range span.Charter.Units {
		for i := range span.Custody[u.ID].Credentials {
			c := &span.Custody[u.ID].Credentials[i]
			r := &Row{Credential: c.ID, Unit: u.ID, Named: c.Owner, Class: c.Class, Source: c.Source, Static: static(c)}
			if p, ok := span.Owner(c.ID, asOf); ok {
				r.Owner = p.ID
			}
			r.Orphaned = r.Owner == ""
			rows[c.ID], order = r, append(order, c.ID)
		}
	}
	for i := range versions {
		x := &versions[i]
		ended := x.State == "destroyed" || x.State == "revoked-proven"
		if ended && x.Since <= asOf.UnixNano() || x.Expires != 0 && !time.Unix(x.Expires, 0).After(asOf) {
			continue
		}
		r := rows[x.Credential]
		if r == nil {
			r = &Row{Credential: x.Credential, Orphaned: true}
			rows[x.Credential], order = r, append(order, x.Credential)
		}
		bound := time.Unix(0, x.Bound).UTC()
		if r.Live++; r.Oldest.IsZero() || bound.Before(r.Oldest) {
			r.Oldest = bound
		}
		r.Static = r.Static || x.Expires == 0 || time.Unix(x.Expires, 0).Sub(bound) >= Static
		r.Refs = append(r.Refs, control.Ref{Log: x.Log, Seq: x.StateSeq})
	}
	for i := range uses {
		u := &uses[i]
		r := rows[u.Credential]
		if r == nil {
			continue // of a credential that is no more, and has no live secret
		}
		r.Uses += u.Count
		if last := time.Unix(0, u.Last).UTC(); last.After(r.LastUse) {
			r.LastUse, r.Refs = last, append([]control.Ref{{Log: u.Log, Seq: u.LastSeq}}, r.Refs...)
		}
	}
	for _, id := range order {
		r := rows[id]
		r.Stale = !r.LastUse.After(asOf.Add(-stale))
		v.Credentials = append(v.Credentials, *r)
	}
	return v, nil
}

// static reports whether what its owner hands over is what is used, and is not replaced within a day.
func static(c *statement.Credential) bool {
	k, ok := custody.FindKind(c.Source)
	return ok && k.Standing && k.Root != "" && (c.MaxLifetime == 0 || time.Duration(c.MaxLifetime) >= Static)
}
