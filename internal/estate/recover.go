package estate

import (
	"fmt"
	"strconv"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// Recover has recovery keys sign the pending draft of the charter, in the place of a root quorum that is lost, and puts their
// announcement of it into the signed store, from where the authority publishes it. It returns when the charter may take effect.
func (d Dir) Recover(pin statement.Pin, reason string, now time.Time, keys ...*Signer) (time.Time, error) {
	before, err := d.InForce(pin)
	if err != nil {
		return time.Time{}, err
	}
	version, err := statement.Newest(d.Drafting(), "charter")
	if err != nil {
		return time.Time{}, err
	}
	if before == nil || version == 0 {
		return time.Time{}, fmt.Errorf("no draft of the charter waits: have it drafted and approved first by the people of the new root quorum (reeve sign charter)")
	}
	for _, k := range keys {
		if err := d.Approve("charter", k); err != nil {
			return time.Time{}, err
		}
	}
	raw, err := d.Drafting().ReadFile(fmt.Sprintf("charter/%d/manifest.json", version))
	if err != nil {
		return time.Time{}, err
	}
	a := statement.Announcement{Estate: pin.Estate, Version: version, SHA256: hash(raw), Reason: reason, Created: now.UTC().Truncate(time.Second)}
	env, err := Seal("recovery", a, keys...)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := before.OpenAnnouncement(env, now); err != nil {
		return time.Time{}, err
	}
	return a.Created.Add(before.Charter.Recovery.Wait()), d.WriteRecord(strconv.FormatInt(version, 10), env)
}
