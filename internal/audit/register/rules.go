package register

import (
	"cmp"
	"slices"
	"time"
)

// Rule is one of the rules by which it is said what a component can do and who answers for it (docs/audit.md).
type Rule string

// The rules.
const (
	R1 Rule = "R1" // effective = declared ∪ discovered ∪ observed; what is not declared is a finding
	R2 Rule = "R2" // any of forward, cache, retrieve, mint: containment, audit, revocation
	R3 Rule = "R3" // transport or invoke alone: routing integrity, caller authentication, misuse within the window
	R4 Rule = "R4" // approvers of the policy version in force answer for the reach
	R5 Rule = "R5" // a vendor's gateway has all flags that no live verdict has seen it without; its contract owner answers for the classification
	R6 Rule = "R6" // no owner: orphaned, escalated, never inherited
)

// Probing reports whether a probe's verdict holds at t.
func (c *Component) Probing(t time.Time) bool { return c.Probed.After(t) }

// Unprobed reports whether the component counts as able to do everything at t, because it is a vendor's and no verdict holds (R5).
func (c *Component) Unprobed(t time.Time) bool { return c.Kind == Vendor && !c.Probing(t) }

// Unseen is what a vendor's gateway has to be taken to be able to do at t because the probe whose verdict holds could not see it either way (R5).
func (c *Component) Unseen(t time.Time) []Flag {
	if c.Kind != Vendor || !c.Probing(t) || c.Verdict == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.Verdict.Unseen), func(f Flag) bool { return slices.Contains(union(c.Declared, c.Discovered, c.Observed), f) })
}

// Effective is what the component has to be taken to be able to do at t (R1, R5), in the order of Flags. What a probe discovered counts after its
// verdict has run out too: that it was not seen again says nothing.
func (c *Component) Effective(t time.Time) []Flag {
	if c.Unprobed(t) {
		return slices.Clone(Flags)
	}
	return union(c.Declared, c.Discovered, c.Observed, c.Unseen(t))
}

// Undeclared is what was discovered or observed and not declared: each is a finding (R1).
func (c *Component) Undeclared() []Flag {
	return slices.DeleteFunc(union(c.Discovered, c.Observed), func(f Flag) bool { return slices.Contains(c.Declared, f) })
}

// control is the flags that put the component in the identity control plane at t (R2).
func (c *Component) control(t time.Time) []Flag {
	return slices.DeleteFunc(slices.Clone(c.Effective(t)), func(f Flag) bool { return !f.ControlPlane() })
}

// ControlPlane reports whether the component is in the identity control plane at t (R2).
func (c *Component) ControlPlane(t time.Time) bool { return len(c.control(t)) > 0 }

// union is the flags of all lists, each once, in the order of Flags.
func union(lists ...[]Flag) []Flag {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b Flag) int { return cmp.Compare(slices.Index(Flags, a), slices.Index(Flags, b)) })
	return slices.Compact(all)
}
