package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/reevehq/reeve/internal/custodian"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/ledger"
)

// watch does what time brings until ctx ends. Until the custodian is ready for the first time it looks more often.
func (h *host) watch(ctx context.Context, reload <-chan *Config) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	pace := tick / 10
	for {
		h.Rekey()
		h.judge()
		if ready, _ := h.rt.Ready.State(); ready {
			pace = tick
		}
		h.Keep()
		select {
		case <-ctx.Done():
			return
		case <-reload:
			h.rt.Reloaded(h.reread())
			h.Log.Info("reload: sets and records are taken as they come", "lock", h.Set().Lock.Version)
		case <-second.C:
			h.Flush()
			h.Expire()
			h.ownUnits()
			h.alarms(h.follower.Load().Status(), h.book.log.Load().Status().Disputed)
			go h.Tell() // ends at once when there is nothing to tell
		case <-time.After(pace):
		}
	}
}

// reread takes the identities that the file holds now.
func (h *host) reread() error {
	if h.cfg.Identity.PassphraseFD > 0 {
		return nil // its descriptor was read at the start
	}
	key, err := h.cfg.Identity.Read()
	if err != nil {
		return err
	}
	return errors.Join(h.secrets.Rekey(key), h.units.Reread())
}

// alarms writes what the follower met and a person should look at, and that witnesses dispute the log.
func (h *host) alarms(st feed.Status, disputed int) {
	if disputed > h.disputed {
		h.Alarm("ledger_disputed")
	}
	h.disputed = disputed
	if st.Refused > h.seen.Refused {
		h.Alarm("feed_refused")
	}
	if st.Withheld > h.seen.Withheld {
		h.Alarm("revocations_withheld")
	}
	if len(st.Gaps) > len(h.seen.Gaps) {
		h.Alarm("revocations_missing")
	}
	h.seen = st
}

// judge says whether secrets can be used, and what helps when they cannot.
func (h *host) judge() {
	age := h.age() // first: what a heartbeat names arrived before it
	st, log := h.follower.Load().Status(), h.book.log.Load()
	reasons := map[string]string{"ledger": "", "witnesses": "", "feed": ""}
	s := log.Status()
	if err := log.Err(); err != nil {
		reasons["ledger"] = err.Error()
	} else if s.Full {
		reasons["ledger"] = fmt.Sprintf("%v; make room for %s", ledger.ErrFull, h.dir.Path("ledger"))
	}
	if lag, _ := log.Uncosigned(); lag > custodian.Fuse || lag > patience && s.Cosigned == 0 {
		reasons["witnesses"] = fmt.Sprintf("no cosignature for %s (%s); start the auditor, or have two owners run: reeve extend witness", lag.Round(time.Second), s.Reason)
	}
	if age < 0 || age > custodian.Bound(h.Set(), "normal") {
		reasons["feed"] = fmt.Sprintf("the news of revocations is too old (%s): %s; start the authority, or have two owners run: reeve extend feed", age.Round(time.Second), cmp.Or(st.Err, "no heartbeat came yet"))
	}
	if h.caughtUp = h.caughtUp || age >= 0 && st.Taking == 0; !h.caughtUp && reasons["feed"] == "" {
		reasons["feed"] = fmt.Sprintf("%d secrets that were handed over are being taken", st.Taking)
	}
	h.Rekey() // the keys that came before the news are known before it is called ready
	for name, reason := range reasons {
		if h.rt.Ready.Set(name, reason) {
			level := slog.LevelInfo
			if reason != "" {
				level = slog.LevelWarn
			}
			h.Log.Log(context.Background(), level, "readiness", "of", name, "reason", reason)
		}
	}
}
