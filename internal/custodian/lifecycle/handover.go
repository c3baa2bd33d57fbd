package lifecycle

import (
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/secret"
)

// take brings the newest secret that was handed over into force.
func (k *Keeper) take() error {
	root := k.Root()
	if root == nil {
		return nil
	}
	return k.Put(root)
}

// retake brings the newest secret that was handed over into force when it is not: its file could not be written when it came, or the record
// changed just then.
func (k *Keeper) retake() {
	root := k.Root()
	if k.Source != nil || root == nil {
		return
	}
	k.mu.Lock()
	held, v := k.shared.held.Load(), k.version(root.Lease, "")
	missing := !k.closed && !k.resting && (held == nil || held.Version < root.Version) && (v == nil || v.Ending == "" && v.Over.IsZero())
	k.mu.Unlock()
	if !missing {
		return
	}
	err := k.Put(root)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.Log.Info("what was handed over can be used now", "credential", k.Record.ID, "version", root.Version)
	}
	k.shared.err = err
}

// Put brings a secret that was handed over into force. The one before overlaps for as long as uses go on that began with it.
func (k *Keeper) Put(root *sealed.Held) error {
	h := &Held{Credential: k.Record.ID, Version: root.Version, Lease: root.Lease, Fingerprint: root.Fingerprint, Issued: root.Created}
	err := root.Inspect(func(v secret.Value) error {
		s := &source.Secret{Value: v, Lease: root.Lease}
		parts, err := k.open(s)
		if err == nil {
			h.material = newMaterial(parts, s, root)
		}
		return err
	})
	if err != nil {
		return err
	}
	h.cut(h.parts)
	h.end = h.Expires
	k.mu.Lock()
	before := k.ending
	k.mu.Unlock()
	return k.put(&k.shared, h, before)
}
