package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/relay"
	"github.com/reevehq/reeve/internal/statement"
)

func (h *host) age() time.Duration {
	if f := h.follower.Load(); f != nil {
		return f.Age()
	}
	return feed.Unknown
}

// follow applies the local statements and begins to follow the estate.
func (h *host) follow(ctx context.Context) error {
	trust := h.cfg.EstateTrust
	cfg := feed.Config{
		Pin: statement.Pin{Estate: trust.Estate, CharterSHA256: trust.CharterSHA256, RootKeys: trust.RootKeys, MinCharter: trust.MinCharter,
			AllowDemo: h.rt.Demo},
		Dir: h.dir.Path("estate"), Process: h.cfg.ID, Sign: h.logKey.Endorse, OnSet: h.adopt, OnRecord: h.take, OnHandover: h.Receive, Log: h.rt.Log,
		Left: func() []string { return h.Gate.State().People() },
	}
	if folder, ok := h.cfg.folder(); ok {
		cfg.Folder = folder
	} else {
		cfg.URLs = h.cfg.Authority
	}
	f, err := feed.Follow(ctx, cfg)
	if err != nil {
		return err
	}
	h.follower.Store(f)
	for _, url := range h.cfg.Relays {
		go relay.Listen(ctx, url, nil, func(file []byte) { h.offer(file, "auditor") }, func(err error) {
			h.rt.Ready.Note("relay "+url, errorText(err))
			if err != nil {
				h.Log.Warn("a second way for records is closed", "error", err)
			}
		})
	}
	return nil
}

// offer takes a record that came another way than by the feed. The follower verifies and keeps it.
func (h *host) offer(file []byte, channel string) error {
	f := h.follower.Load()
	if f == nil {
		return errors.New("the custodian has not begun to follow its estate yet; try again shortly")
	}
	take := f.Offer
	if channel == "admin" { // an operator is told how it ended; who else brings one is not waited for
		take = f.OfferAndWait
	}
	err := take(file, channel)
	if err != nil {
		h.Log.Warn("a record was refused", "channel", channel, "error", err)
	}
	return err
}

// passed takes a record that a gateway passed on.
func (h *host) passed(_ hop.Peer, file []byte) { h.offer(file, "gateway") }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// take takes a record that the follower verified. An extension needs its entry first, so one that comes before the ledger is open
// waits for it: it may be what the operators send because a part of the start waits.
func (h *host) take(r *statement.Record) error {
	if r.Kind != "extension" && r.Kind != "break-glass" && r.Kind != "break-glass-review" {
		return h.Take(r)
	}
	h.early.mu.Lock()
	defer h.early.mu.Unlock()
	if h.book.log.Load() == nil {
		h.early.records = append(h.early.records, r)
		h.Log.Warn("a record waits until the ledger is open", "kind", r.Kind)
		return nil
	}
	return h.Take(r)
}

// catchUp takes the extensions that came before the ledger was open.
func (h *host) catchUp() {
	h.early.mu.Lock()
	defer h.early.mu.Unlock()
	for _, r := range h.early.records {
		if err := h.Take(r); err != nil {
			h.Log.Error("an extension that waited for the ledger is refused", "error", err)
		}
	}
	h.early.records = nil
}

// adopt puts a set in force.
func (h *host) adopt(set *statement.Set, _ statement.Store) error {
	if err := h.confined.Check(set.Charter.RequireConfinement); err != nil {
		return err
	}
	if err := h.Adopt(set); err != nil {
		return err
	}
	if err := h.issuers.Use(set); err != nil {
		h.Log.Error("the keys of token issuers cannot be fetched", "error", err)
	}
	h.units.Use(set)
	if err := h.units.Publish(h.cfg.FederationDir); err != nil {
		h.Log.Error("what the providers of a federation verify with is not there to be published", "error", err)
	}
	h.ownPeer(set)
	return nil
}

// ownPeer tells people when the custody statements name another key than this custodian has: no gateway would believe it.
func (h *host) ownPeer(set *statement.Set) {
	note := ""
	for unit, custody := range set.Custody {
		for _, k := range custody.Custodians {
			if h.hopKey != nil && k.ID == h.cfg.ID && k.Peer != h.hopKey.Peer() {
				note = fmt.Sprintf("the custody statement of %s gives this custodian the peer key %q, its own is %s: gateways on other machines refuse it until its lifecycle owner mends that", unit, k.Peer, h.hopKey.Peer())
			}
		}
	}
	h.rt.Ready.Note("hop", note)
	if note != "" {
		h.Log.Warn(note)
	}
}

// statements waits for the first set.
func (h *host) statements(ctx context.Context) error {
	for h.Set() == nil {
		reason := fmt.Sprintf("no set of statements from %s yet", strings.Join(h.cfg.Authority, ", "))
		if err := h.follower.Load().Status().Err; err != "" {
			reason += ": " + err
		}
		if h.rt.Ready.Set("statements", reason+"; run: reeve publish") {
			h.Log.Warn("waiting for statements", "reason", reason)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tick / 20):
		}
	}
	h.Rekey()
	h.rt.Ready.Set("statements", "")
	return nil
}
