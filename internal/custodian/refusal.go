package custodian

import (
	"errors"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/ceiling"
	"github.com/reevehq/reeve/internal/custodian/lifecycle"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/workload"
)

// refusal is one way to say no. The client reads code, status and message; the ledger's entry has reason.
type refusal struct {
	code    string // stable
	reason  string // stable and finer than code, or empty for the same
	status  int    // HTTP
	message string // what happened, what it means, what to do
	retry   int    // seconds; 0 for none
	quiet   bool   // counted, not written one by one: the caller is not known, or has been refused too often
	claimed bool   // it is not proven whose request it is, only claimed: written one by one as long as they are few
	counts  bool   // towards the workload's denials a minute: it asked for what it may not have
}

// word is what the entry and the metrics call it.
func (r *refusal) word() string {
	if r.reason != "" {
		return r.reason
	}
	return r.code
}

// hop returns the refusal as the gateway gets it.
func (r *refusal) hop(receipt string) *hop.Refusal {
	return &hop.Refusal{Code: r.code, Status: r.status, Message: r.message, Receipt: receipt, RetryAfter: r.retry}
}

func refuseStarting() *refusal {
	return &refusal{code: "starting", status: 503, retry: 1, quiet: true,
		message: "The custodian has no statements yet. Nothing was sent. Try again shortly; its /readyz says what it waits for."}
}

func refusePeer() *refusal {
	return &refusal{code: "peer_refused", status: 403, quiet: true,
		message: "The operations statement in force does not name this gateway, or names another key for it. Nothing was sent. Ask its operations owner."}
}

// refuseProof says why a proof was not taken. known means that the token by itself names a workload. It is not held against that
// workload: whoever saw the token could shut it out.
func refuseProof(err error, known bool) *refusal {
	r := &refusal{code: "unauthenticated", reason: "proof_malformed", status: 401, quiet: !known, claimed: known,
		message: "The workload's proof could not be verified: " + clip(err.Error(), 300) + ". Nothing was sent. Use the reeve key (rv_…) that the workload was issued, or a token of an issuer that the charter names for it."}
	for _, x := range []struct {
		err    error
		reason string
	}{
		{workload.ErrUnknown, "proof_unknown"}, {workload.ErrExpired, "proof_expired"}, {workload.ErrRevoked, "proof_revoked"},
		{workload.ErrSignature, "proof_signature"}, {workload.ErrBound, "proof_unbound"}, {workload.ErrKeys, "issuer_unreachable"},
		{pop.ErrMalformed, "pop_malformed"}, {pop.ErrTime, "pop_time"}, {pop.ErrDigest, "pop_digest"}, {pop.ErrSignature, "pop_signature"},
		{errAudience, "pop_audience"}, {errRoute, "pop_route"}, {errNonce, "use_reeve_nonce"}, {replay.ErrReplayed, "replayed"}, {replay.ErrFull, "replay_full"},
	} {
		if errors.Is(err, x.err) {
			r.reason = x.reason
		}
	}
	switch r.reason {
	case "proof_expired":
		r.message = "The workload's credential has expired. Nothing was sent. Have a policy owner of its unit issue a new key (reeve workload key issue), or get a new token."
	case "issuer_unreachable":
		r.code, r.status, r.retry = r.reason, 503, 2
		r.message = "The workload's token cannot be verified now: " + clip(err.Error(), 300) + ". Nothing was sent. The custodian's log says why the issuer does not answer."
	case "use_reeve_nonce":
		r.code, r.quiet = r.reason, true
		r.message = "The request was not signed with a fresh nonce. Nothing was sent. Sign it again with the one in this answer's Reeve-Nonce."
	case "replayed":
		r.code, r.message = r.reason, "This signed request was seen before. Nothing was sent. Sign each request anew."
	case "replay_full":
		r.code, r.status, r.retry = r.reason, 503, 5
		r.message = "The custodian has no room to remember another signed request. Nothing was sent. Try again shortly."
	}
	return r
}

func refuseNetwork() *refusal {
	return &refusal{code: "network_refused", status: 403, counts: true,
		message: "The workload's key is bound to networks, and the gateway says that this request comes from elsewhere. Nothing was sent. The unit's policy owner can issue a key for this network."}
}

func refuseGrant(what string) *refusal {
	return &refusal{code: "not_granted", reason: "not_granted_" + what, status: 403, counts: true,
		message: "The workload's token is narrowed, and does not reach this " + what + ". Nothing was sent. Ask whoever delegated for one that does."}
}

func refuseTerms(signed string) *refusal {
	return &refusal{code: "not_signed_for", reason: "pop_credential", status: 403, counts: true,
		message: fmt.Sprintf("The request was signed for %.100q, which is not the credential that the gateway asks for, nor stands for it. Nothing was sent. Name the credential or the model, or allow fallbacks.", signed)}
}

func refuseCredential() *refusal {
	return &refusal{code: "unknown_credential", status: 403, counts: true,
		message: "The statements in force have no such credential. Nothing was sent. Name one that the custody statement has."}
}

func refuseRoute(reason string) *refusal {
	return &refusal{code: "not_agreed", reason: reason, status: 403, counts: true,
		message: "Operations and custody do not agree on this use (" + reason + "): the gateway, its custodian and the credential must be named by both, with live owners. " +
			"Nothing was sent. reeve doctor shows which statement is missing what."}
}

func refuseRequest(code string, status int, err error) *refusal {
	return &refusal{code: code, status: status, counts: true, message: "The request is refused: " + err.Error() + ". Nothing was sent."}
}

func refuseModel(name, credential string) *refusal {
	return &refusal{code: "model_refused", status: 400, counts: true,
		message: fmt.Sprintf("The model %.100q names a provider that the credential %s is not for. Nothing was sent. Name the model of another provider, or let the gateway choose the credential.", name, credential)}
}

func refusePolicy(reason string) *refusal {
	return &refusal{code: "policy_denied", reason: reason, status: 403, counts: true,
		message: "Signed policy does not permit this use (" + reason + "). Nothing was sent. The unit's policy owner can permit it; reeve why, with this answer's Reeve-Receipt, names the policies."}
}

func refuseIsolation(is, needs string) *refusal {
	return &refusal{code: "isolation", status: 403,
		message: fmt.Sprintf("The gateway is separated from the custodian at the level %s and the credential needs %s. Nothing was sent. "+
			"Run them as different users, or have the credential's lifecycle owner sign accept_isolation: %s.", is, needs, is)}
}

func refuseExcess(x *ceiling.Excess) *refusal {
	return &refusal{code: "ceiling", reason: x.Bound, status: 429, retry: x.Retry,
		message: "The workload has reached its signed ceiling (" + x.Bound + "). Nothing was sent. Wait, or have the unit's policy owner raise it."}
}

func refuseClosed(c *closing.Closed) *refusal {
	return &refusal{code: "frozen", reason: "closed_" + c.Target.Kind, status: 403, counts: true,
		message: "This use is closed: " + c.Error() + ". Nothing was sent. A record signed by an owner and one other role opens it again."}
}

func refuseStale(age, bound time.Duration) *refusal {
	what := "The custodian has had no news of revocations yet"
	if age >= 0 {
		what = fmt.Sprintf("The newest news of revocations is %s old and %s is the bound", age.Round(100*time.Millisecond), bound)
	}
	return &refusal{code: "stale", status: 503, retry: 2,
		message: what + ". Nothing was sent. It clears by itself when the authority is reached again; the custodian's /readyz says why it is not."}
}

func refuseUncosigned(lag time.Duration) *refusal {
	return &refusal{code: "uncosigned", status: 503, retry: 5,
		message: fmt.Sprintf("The oldest ledger entry that no witness has cosigned is %s old and %s is the bound. Nothing was sent. "+
			"It clears by itself when enough witnesses (the auditor) are reached again.", lag.Round(time.Second), Fuse)}
}

func refuseNoSecret(credential string) *refusal {
	return &refusal{code: "no_secret", status: 503,
		message: "No usable secret has been handed over for " + credential + ". Nothing was sent. Its lifecycle owner runs: reeve credential put " + credential}
}

// refuseUnheld says why there is no secret to use. What comes from a source holds none.
func refuseUnheld(credential string, err error) *refusal {
	var closed *refusal
	switch {
	case errors.As(err, &closed):
		return closed
	case errors.Is(err, lifecycle.ErrNone), errors.Is(err, source.ErrNoRoot):
		return refuseNoSecret(credential)
	case errors.Is(err, source.ErrDown), errors.Is(err, lifecycle.ErrWait):
		return &refusal{code: "source_down", status: 503, retry: 5,
			message: fmt.Sprintf("No secret of %s is held, and its source does not give one now: %s. Nothing was sent. Try again; the custodian's log says more.", credential, clip(err.Error(), 300))}
	}
	return &refusal{code: "source_refused", status: 503, retry: 30,
		message: fmt.Sprintf("No secret of %s is held, and its source gives none: %s. Nothing was sent. Its lifecycle owner sees to the custody record and to the provider.", credential, clip(err.Error(), 300))}
}

// Error makes a refusal the reason why nothing is fetched.
func (r *refusal) Error() string { return r.message }

func refuseOldSecret(credential string, life time.Duration) *refusal {
	return &refusal{code: "secret_too_old", status: 503,
		message: fmt.Sprintf("The secret of %s was handed over longer ago than its custody record allows (%s). Nothing was sent. Its lifecycle owner renews it and runs: reeve credential put %s", credential, life, credential)}
}

func refuseLedger() *refusal {
	return &refusal{code: "ledger", status: 503, retry: 5,
		message: "The custodian could not write the use to its ledger, so it did not make it. Nothing was sent. The custodian's log and /readyz say what ails the disk."}
}

func refuseActors() *refusal {
	return &refusal{code: "many_actors", status: 503, retry: 60,
		message: "More actors whom this custodian has not met came from this tenant in a minute than it makes keys for. Nothing was sent. Those that it knows go on; try again in a minute."}
}

func refuseUpstream(sent bool) *refusal {
	no := &refusal{code: "upstream_unreachable", status: 502, retry: 1,
		message: "The upstream could not be reached. Nothing was sent. Try again; the custodian's log says what failed."}
	if sent {
		no.code, no.retry = "upstream_no_answer", 0
		no.message = "The request was sent and the upstream gave no usable answer: it may have acted on it. The custodian's log says what failed."
	}
	return no
}

func refuseFault() *refusal {
	return &refusal{code: "fault", status: 500, message: "The custodian met a fault of its own. Nothing was sent. Its log has the details."}
}
