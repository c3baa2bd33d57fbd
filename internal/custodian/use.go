package custodian

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/ceiling"
	"github.com/reevehq/reeve/internal/custodian/lifecycle"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/workload"
)

// use is one request on its way through the custodian. What is known of it grows step by step; nothing in open is believed.
type use struct {
	closing.Use // the names that it stands or falls with
	peer        hop.Peer
	open        *hop.Open
	start       time.Time
	admitted    time.Time // when the proof was shown: what it rested on had to hold then
	view        *view

	who        workload.Identity // verified when who.Workload is not empty
	credential *credential
	target     string // path and query as they are sent
	header     []hop.Field
	body       []byte // as it is sent
	named      string // the model, as the client named it
	ask        policy.Request
	decision   policy.Decision
	slot       ceiling.Slot
	secret     *lifecycle.Held
	age        time.Duration // of the news of revocations
	waivers    []string      // records of the break-glasses that it rests on

	intent  ledger.Durable
	outcome outcome
}

// outcome is how a use ended after its intent was durable.
type outcome struct {
	reason string
	status int   // of the upstream's answer; 0 for none
	bytes  int64 // of the answer's body passed on
}

// levels are the words for workload.Identity.Level.
var levels = [4]string{"W0", "W1", "W2", "W3"}

// entry begins an entry with what is known of the use. Its names come from statements, never from the gateway.
func (u *use) entry(t entry.Type) *entry.Entry {
	e := &entry.Entry{
		Type: t, Gateway: u.Gateway, Credential: u.Credential, FeedAgeMS: milliseconds(u.age), Policies: u.decision.Policies,
	}
	if u.view != nil {
		e.Estate = u.view.lock
	}
	if u.who.Workload != "" {
		e.Tenant, e.Unit, e.Workload = u.who.Tenant, u.who.Unit, u.who.Workload
		e.Level, e.Proof, e.Actor = levels[u.who.Level&3], u.who.Proof, actors(&u.who)
	}
	if u.target != "" { // the record allows this method and path
		path, _, _ := strings.Cut(u.target, "?")
		e.Dest, e.Method, e.PathHash = u.credential.Destination.Origin, u.open.Method, digest(nil, path)
	}
	return e
}

// actors are what the workload was known by, who vouched for that, and who acts for it.
func actors(who *workload.Identity) []string {
	kind := "key:"
	if who.Proof == workload.Token {
		kind = "token:"
	}
	list := []string{kind + who.KeyID}
	if who.Proof != workload.Bearer {
		list = append(list, "issuer:"+who.Issuer)
	}
	for _, a := range who.Actor {
		list = append(list, "act:"+a)
	}
	return list
}

// intention is the entry that has to be durable before the secret is fetched, with its erasable payload.
func (u *use) intention() (*entry.Entry, []byte) {
	var salt [16]byte
	rand.Read(salt[:]) // never fails
	e := u.entry(entry.Intent)
	e.CredFP, e.Lease = u.secret.Fingerprint, u.secret.Lease
	e.ReqDigest = digest(salt[:], u.body)
	e.Decision, e.Reason = "allow", u.decision.Reason
	return e, u.payload(salt[:])
}

// input is the erasable payload: what a decision looked at, so that it can be replayed. Members are in the order of RFC 8785.
type input struct {
	Actors     []string          `json:"actors,omitempty"`
	Asserted   map[string]string `json:"asserted,omitempty"`
	Authority  bool              `json:"authority_asserted,omitempty"`
	Credential string            `json:"credential"` // as the gateway named it
	Gateway    string            `json:"gateway"`
	Isolation  string            `json:"isolation,omitempty"`
	Level      int               `json:"level"`
	MaxTokens  int64             `json:"max_tokens"`
	Method     string            `json:"method"`
	Model      string            `json:"model"`
	Path       string            `json:"path"` // public path and query, as the client sent them
	Proof      string            `json:"proof"`
	Request    string            `json:"request"`        // the gateway's request id
	Salt       string            `json:"salt,omitempty"` // hex: req_digest is the SHA-256 of salt and body
	Stream     bool              `json:"stream"`
	Target     string            `json:"target,omitempty"` // path and query as they are sent
	Time       time.Time         `json:"time"`
	Workload   string            `json:"workload"`
}

func (u *use) payload(salt []byte) []byte {
	b, err := json.Marshal(input{
		Actors:     u.who.Actor,
		Asserted:   u.ask.Asserted,
		Authority:  u.who.AuthorityAsserted,
		Credential: clip(u.open.Credential, maxName),
		Gateway:    u.Gateway,
		Isolation:  u.ask.Isolation,
		Level:      u.who.Level,
		MaxTokens:  u.ask.MaxTokens,
		Method:     clip(u.open.Method, maxName),
		Model:      clip(u.ask.Model, maxName),
		Path:       clip(u.open.Path, pin.MaxTarget),
		Proof:      u.who.Proof,
		Request:    clip(u.open.RequestID, maxName),
		Salt:       hex.EncodeToString(salt),
		Stream:     u.ask.Stream,
		Target:     u.target,
		Time:       u.start,
		Workload:   u.who.Workload,
	})
	if err != nil {
		panic("custodian: encoding a decision's input: " + err.Error()) // strings, numbers and a time: cannot fail
	}
	return b
}

// maxName bounds what a payload or a log keeps of a name that came from a gateway, in bytes.
const maxName = 128

func clip(s string, n int) string { return s[:min(len(s), n)] }

// digest is the hex SHA-256 of salt and text.
func digest[T string | []byte](salt []byte, text T) string {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(text))
	var sum [sha256.Size]byte
	return hex.EncodeToString(h.Sum(sum[:0]))
}
