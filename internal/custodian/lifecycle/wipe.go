package lifecycle

import (
	"slices"
	"time"
)

// grave is what a version was made of whose time is over. It is wiped as soon as that is safe, and not only when the collector comes to it: what
// it frees keeps its bytes.
type grave struct {
	*material
	after time.Time // what was begun with it at the source has ended by then
}

// bury has what was fetched wiped when its last use has gone. It needs mu.
func (k *Keeper) bury(h *Held, now time.Time) {
	if h == nil || h.from != nil || slices.ContainsFunc(k.graves, func(g grave) bool { return g.material == h.material }) {
		return
	}
	k.graves = append(k.graves, grave{h.material, now.Add(limit)})
}

// wipe wipes what is buried and that nothing uses. It needs mu.
func (k *Keeper) wipe(now time.Time) {
	k.graves = slices.DeleteFunc(k.graves, func(g grave) bool {
		if now.Before(g.after) || slices.ContainsFunc(g.helds, func(h *Held) bool { return h.InUse() > 0 }) {
			return false
		}
		wipe(g.secret)
		g.parts.Patterns.Wipe()
		return true
	})
}
