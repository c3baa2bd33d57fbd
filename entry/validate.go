package entry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// ErrInvalid is wrapped by every error of Validate.
var ErrInvalid = errors.New("invalid entry")

// Validate checks what each type must hold and the ranges of numbers.
func (e *Entry) Validate() error {
	if why := e.wrong(); why != "" {
		return fmt.Errorf("%w: %s: %s", ErrInvalid, e.Type, why)
	}
	return nil
}

func (e *Entry) wrong() string {
	for _, n := range [...]int64{e.Seq, e.TenantSeq, e.IntentSeq, int64(e.Status), e.Bytes, e.Count, e.PrevSize, e.FeedAgeMS + 1, e.Expires} {
		if n < 0 || n > maxInt {
			return "number outside 0 … 2^53-1"
		}
	}
	switch {
	case e.V != 1:
		return "v is not 1"
	case e.TimeNS < 0:
		return "time before 1970"
	case !isHex(e.Log, 8):
		return "log is not a log id of 16 hex digits"
	case e.Tenant == "" && e.TenantSeq != 0:
		return "tenant_seq without tenant"
	case !e.HasIntent && e.IntentSeq != 0:
		return "intent_seq without an intent"
	case e.IntentLog != "" && (!e.HasIntent || e.IntentLog == e.Log || !isHex(e.IntentLog, 8)):
		return "intent_log is not the id of another log, or there is no intent_seq"
	case e.HasIntent && e.IntentLog == "" && e.IntentSeq >= e.Seq:
		return "intent_seq is not below seq"
	case e.Commit != "" && !isHex(e.Commit, 32):
		return "commit is not a SHA-256 in hex"
	case e.State != "" && !slices.Contains(states(), e.State):
		return "unknown state"
	case e.PrevLog == "" && (e.PrevSize != 0 || e.PrevRoot != ""):
		return "prev_size or prev_root without prev_log"
	case e.PrevLog != "" && e.Type != Retire:
		return "prev_log outside a retire entry"
	}
	switch e.Type {
	case Intent:
		if e.Tenant == "" || e.Unit == "" || e.Workload == "" || e.Credential == "" || e.Decision != "allow" {
			return "needs tenant, unit, workload, credential and decision allow"
		}
	case Deny:
		if e.Decision != "deny" || e.Reason == "" {
			return "needs decision deny and a reason"
		}
	case Outcome:
		if !e.HasIntent {
			return "needs intent_seq"
		}
	case Version:
		if e.Credential == "" || e.Lease == "" || e.State == "" {
			return "needs credential, lease and state"
		}
	case Heartbeat:
		if e.Commit == "" {
			return "needs commit"
		}
	case Retire:
		if root, err := base64.StdEncoding.Strict().DecodeString(e.PrevRoot); e.PrevLog == "" || err != nil || len(root) != 32 {
			return "needs prev_log and a prev_root of 32 bytes in base64"
		}
	case Mint, Exchange, Issue, Publish, Revoke, Freeze, Unfreeze, Probe, Alarm, BreakGlass, Attest, Erasure:
	default:
		return "unknown type"
	}
	return ""
}

// states are those of a version of a credential's secret.
func states() []string {
	return []string{"pending", "active", "overlapping", "frozen", "revoked-unproven", "revoked-proven", "destroyed"}
}

func isHex(s string, n int) bool {
	if len(s) != 2*n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
