package main

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// traffic makes the entries of a month by their number: 3 gateways, 40 business units, 2,000 workloads, 10,000 credentials, of which few are used
// much and many seldom: a tenth has half of the uses. One use in 16 is by another workload than the usual one. Of a hundred entries 48 are
// intents, each followed by its outcome; the others are denials, states of versions and heartbeats.
type traffic struct {
	log  string
	step int64 // nanoseconds between two entries
}

const began = 1_788_220_800_000_000_000 // 2026-09-01T00:00:00Z

// entry is entry number i. Its identifiers are as long as real ones.
func (t *traffic) entry(i int64) *entry.Entry {
	e := &entry.Entry{V: 1, Seq: i, TimeNS: began + i*t.step, Log: t.log}
	of := i
	if i%2 == 1 && i%100 < 96 {
		of--
	}
	n := uint64(of) * 0x9e3779b97f4a7c15 // spread over the numbers, the same in every run
	u := float64(n>>11) / (1 << 53)
	credential := uint64(u * u * u * 10_000)
	workload := credential / 5
	if n>>7%16 == 0 {
		workload = (workload + 1) % 2_000
	}
	e.Tenant, e.Unit, e.Workload = "main", fmt.Sprintf("unit-%02d", workload/50%40), fmt.Sprintf("spiffe://example.org/unit-%02d/workload-%04d", workload/50%40, workload)
	e.TenantSeq, e.Gateway, e.Credential = i, fmt.Sprintf("gateway-%d", workload%3), fmt.Sprintf("unit-%02d-credential-%04d", credential/250, credential)
	e.CredFP, e.Estate = fmt.Sprintf("%032x", credential*7919), fmt.Sprintf("%064x", of*t.step/(1e9*86400)*104729)
	switch k := i % 100; {
	case k < 96 && i%2 == 0:
		e.Type, e.Decision, e.Level, e.Proof, e.FeedAgeMS = entry.Intent, "allow", "W2", "pop", 40
		e.Dest, e.Method, e.PathHash = "https://api.example.org", "POST", fmt.Sprintf("%064x", n)
		e.ReqDigest, e.Lease, e.Policies = fmt.Sprintf("%064x", n+1), fmt.Sprintf("%016x", credential), []string{e.Unit + "-uses"}
	case k < 96:
		*e = entry.Entry{V: 1, Seq: i, TimeNS: e.TimeNS, Log: t.log, Tenant: "main", TenantSeq: i, Type: entry.Outcome, HasIntent: true, IntentSeq: of, Status: 200, Bytes: int64(n >> 52)}
	case k < 98:
		e.Type, e.Decision, e.Reason, e.Level, e.Proof = entry.Deny, "deny", "no_policy", "W2", "pop"
	case k < 99:
		e.Type, e.Lease, e.State = entry.Version, fmt.Sprintf("%016x", credential), "active"
	default:
		*e = entry.Entry{V: 1, Seq: i, TimeNS: e.TimeNS, Log: t.log, Type: entry.Heartbeat, Commit: strings.Repeat("00", 32), Tenant: "main", TenantSeq: i}
	}
	return e
}

// stack is a Merkle tree (RFC 6962) as it grows: the roots of its full subtrees, largest first.
type stack struct {
	hashes []tlog.Hash
	n      int64
}

func (s *stack) add(h tlog.Hash) {
	for n := s.n; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(s.hashes[len(s.hashes)-1], h)
		s.hashes = s.hashes[:len(s.hashes)-1]
	}
	s.hashes = append(s.hashes, h)
	s.n++
}

func (s *stack) root() (h tlog.Hash) {
	for i, x := range slices.Backward(s.hashes) {
		if i == len(s.hashes)-1 {
			h = x
		} else {
			h = tlog.NodeHash(x, h)
		}
	}
	return h
}
