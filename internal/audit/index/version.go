package index

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
)

// Version is one version of a credential's secret in one custodian: from the entry that bound or received it to its newest state, or to its state at
// the end of the window that was asked about.
type Version struct {
	Log         string `json:"log"`
	Tenant      string `json:"tenant,omitempty"`
	Unit        string `json:"unit,omitempty"`
	Credential  string `json:"credential"`
	Workload    string `json:"workload,omitempty"`
	Lease       string `json:"lease"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Bound       int64  `json:"bound"`             // Unix time in nanoseconds of the entry that first names it
	BoundSeq    int64  `json:"bound_seq"`         // of that entry
	Expires     int64  `json:"expires,omitempty"` // Unix time in seconds, as its source said by then; 0 for none
	State       string `json:"state"`
	Since       int64  `json:"since"`     // Unix time in nanoseconds of the state; never before that of the state before, whatever the clock said
	StateSeq    int64  `json:"state_seq"` // of the entry that says so
}

// Past is a version as it was until an entry said otherwise.
type Past struct {
	Version
	Until int64 `json:"until"` // Unix time in nanoseconds of that entry: Since of what came then
}

// place is what a version is known by.
type place struct{ log, credential, workload, lease string }

func (v *Version) place() place { return place{v.Log, v.Credential, v.Workload, v.Lease} }

// merge takes what is said of the version later.
func (v *Version) merge(o *Version) {
	v.Tenant, v.Unit = cmp.Or(o.Tenant, v.Tenant), cmp.Or(o.Unit, v.Unit)
	v.Fingerprint, v.Expires = cmp.Or(o.Fingerprint, v.Fingerprint), cmp.Or(o.Expires, v.Expires)
	v.State, v.Since, v.StateSeq = o.State, max(o.Since, v.Since), o.StateSeq
}

func (v Version) compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Bound, o.Bound), cmp.Compare(v.Log, o.Log), cmp.Compare(v.BoundSeq, o.BoundSeq), cmp.Compare(v.StateSeq, o.StateSeq))
}

// over reports whether a version can be used no more, and since when.
func (v *Version) over() (since int64, yes bool) {
	if v.State == "destroyed" || v.State == "revoked-proven" {
		return v.Since, true
	}
	return v.Expires * int64(time.Second), v.Expires != 0
}

// version reports whether the filter chooses a version, as it was at the end of the filter's window.
func (f Filter) version(v *Version) bool {
	since, over := v.over()
	before, after := f.To, f.From
	f.From, f.To, f.Types, f.Gateway = time.Time{}, time.Time{}, nil, ""
	return f.has(0, "", v.Log, v.Tenant, v.Unit, v.Workload, "", v.Credential, v.Fingerprint) && (before.IsZero() || v.Bound < before.UnixNano()) &&
		(!over || after.IsZero() || since >= after.UnixNano())
}

// life is what entries have said of a version, the newest last: each time all that was known then.
type life []Version

// extended is the life with what is said later.
func (l life) extended(v *Version) life {
	if len(l) == 0 {
		return life{*v}
	}
	next := l[len(l)-1]
	next.merge(v)
	return append(l, next)
}

// before is the version as it was before an instant in Unix nanoseconds, or nil when it was not there yet.
func (l life) before(t int64) *Version {
	for i := range slices.Backward(l) {
		if l[i].Since < t {
			return &l[i]
		}
	}
	return nil
}

// past is all but the newest, with when each ended.
func (l life) past() (list []Past) {
	for i := range len(l) - 1 {
		list = append(list, Past{l[i], l[i+1].Since})
	}
	return list
}

func (m *Memory) version(e *entry.Entry) {
	v := &Version{Log: e.Log, Tenant: e.Tenant, Unit: e.Unit, Credential: e.Credential, Workload: e.Workload, Lease: e.Lease, Fingerprint: e.CredFP, Bound: e.TimeNS,
		BoundSeq: e.Seq, Expires: e.Expires, State: cmp.Or(e.State, "pending"), Since: e.TimeNS, StateSeq: e.Seq}
	m.versions[v.place()] = m.versions[v.place()].extended(v)
	m.said++
}

// Versions implements Reader.
func (m *Memory) Versions(_ context.Context, f Filter) (list []Version, err error) {
	_, to := f.span()
	for _, l := range m.versions {
		if v := l.before(to); v != nil && f.version(v) {
			list = append(list, *v)
		}
	}
	slices.SortFunc(list, Version.compare)
	return list, nil
}

// past is every state that a version had and has no more.
func (m *Memory) past() (list []Past) {
	for _, l := range m.versions {
		list = append(list, l.past()...)
	}
	slices.SortFunc(list, func(a, b Past) int { return a.Version.compare(b.Version) })
	return list
}
