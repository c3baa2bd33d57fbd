package feed

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

const (
	// AskType is the DSSE payload type of an Ask.
	AskType = "application/vnd.reeve.follow+json"
	// AskHeader is the header of a request for the stream: the envelope of an Ask in base64 (RFC 4648, section 4).
	AskHeader = "Reeve-Follow"
	// ChallengeHeader is the header of a refusal with 401: what an Ask of that authority has to name.
	ChallengeHeader = "Reeve-Challenge"
	// AskLife is how far the time of an Ask may be from the authority's clock.
	AskLife = 30 * time.Second
)

// ErrAsk is wrapped by every refusal of an Ask.
var ErrAsk = errors.New("only the estate's own processes are told of it")

// Ask is how a process of the charter asks for the stream: signed with its log key, and good once, at the authority whose challenge it
// names. Its members are in the order of RFC 8785.
type Ask struct {
	Challenge string    `json:"challenge"` // of the running authority that is asked, in base64url
	Estate    string    `json:"estate"`
	Lock      string    `json:"lock,omitempty"` // hex hash of the set in force; empty for none
	Nonce     string    `json:"nonce"`          // at least 128 bits that no other Ask of the process has
	Process   string    `json:"process"`        // who asks, and whose handovers are wanted
	Records   string    `json:"records"`        // Records.Sum of those held
	Time      time.Time `json:"time"`
}

// Sign signs a payload of a DSSE type with each key that the process has: the charter may have any of them.
type Sign func(payloadType string, payload []byte) ([]statement.Signature, error)

// Header returns the value of AskHeader. It gives the Ask a nonce.
func (a *Ask) Header(sign Sign) (string, error) {
	a.Nonce = rand.Text()
	payload, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	env := &statement.Envelope{PayloadType: AskType, Payload: payload}
	if env.Signatures, err = sign(AskType, payload); err != nil {
		return "", fmt.Errorf("signing the request for the stream: %w", err)
	}
	file, err := statement.Canonical(env)
	return base64.StdEncoding.EncodeToString(file), err
}

// OpenAsk verifies a value of AskHeader with the log keys that the charter has at the time, and returns the one that signed it. Whether
// the challenge is its own, and the nonce was not seen, is for the authority to say.
func OpenAsk(header string, set *statement.Set, now time.Time) (*Ask, statement.ServiceKey, error) {
	var none statement.ServiceKey
	if header == "" {
		return nil, none, fmt.Errorf("%w: the request has no %s header", ErrAsk, AskHeader)
	}
	file, err := base64.StdEncoding.Strict().DecodeString(header)
	if err != nil {
		return nil, none, fmt.Errorf("%w: %s is not base64", ErrAsk, AskHeader)
	}
	env, err := statement.ParseEnvelope(file)
	if err != nil {
		return nil, none, fmt.Errorf("%w: %w", ErrAsk, err)
	}
	a := new(Ask)
	if env.PayloadType != AskType || json.Unmarshal(env.Payload, a) != nil || len(a.Nonce) < 22 || len(a.Nonce) > 64 {
		return nil, none, fmt.Errorf("%w: %s is not an envelope of type %s with a nonce of 22 to 64 characters", ErrAsk, AskHeader, AskType)
	}
	if away := now.Sub(a.Time).Abs(); a.Estate != set.Charter.Estate || away > AskLife {
		return nil, none, fmt.Errorf("%w: asked for estate %q, %s from the authority's time (compare the clocks of both machines)", ErrAsk, a.Estate, away.Round(time.Second))
	}
	for _, key := range set.ServiceKeys("log", now) {
		if key.Process == a.Process && signs(key, env) {
			return a, key, nil
		}
	}
	return nil, none, fmt.Errorf("%w: no live log key of the charter for %q signed the request (log_key, service_keys)", ErrAsk, a.Process)
}

// signs reports whether a signature of an envelope is by a key.
func signs(key statement.ServiceKey, env *statement.Envelope) bool {
	for _, sig := range env.Signatures {
		if len(key.Key) > len(sig.KeyID) && key.Key[:len(sig.KeyID)+1] == sig.KeyID+"+" && statement.VerifyService(key, env.PayloadType, env.Payload, sig.Sig) {
			return true
		}
	}
	return false
}

// isChallenge reports whether a text is one that an Ask may name: of at most 64 characters of base64url.
func isChallenge(text string) bool {
	_, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && text != "" && len(text) <= 64
}
