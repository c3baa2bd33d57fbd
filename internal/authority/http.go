package authority

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/docs/openapi"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/internal/statement"
)

// Status is the answer of GET /v1/status.
type Status struct {
	Estate    string `json:"estate"`
	Authority string `json:"authority"`
	Leading   bool   `json:"leading"`          // this authority holds the lease and publishes
	Holder    string `json:"holder,omitempty"` // who does, when this one stands by
	Epoch     int64  `json:"epoch"`            // of the lease; 0 when this authority stands by
	Number    int64  `json:"number"`           // of the newest heartbeat
	Lock      int64  `json:"lock"`             // version published; 0 for none
	LockHash  string `json:"lock_hash"`        // hex
	Records   int    `json:"records"`          // published, handovers not counted
	Sum       string `json:"records_sum"`      // as in heartbeats
	Followers int    `json:"followers"`
	Refusal   string `json:"refusal,omitempty"` // why what lies in the signed store is not published
}

// Status reports what is published.
func (a *Authority) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{Estate: a.pin.Estate, Authority: a.id, Leading: a.leading, Holder: a.other, Epoch: a.lease.Epoch, Number: a.number, Records: a.sums.Len(), Sum: a.sums.Sum(), Followers: len(a.followers), Refusal: a.refusal}
	if a.set != nil {
		s.Lock, s.LockHash = a.set.Lock.Version, hex.EncodeToString(a.set.LockHash[:])
	}
	return s
}

// Accepted is the answer to a record.
type Accepted struct {
	ID      string `json:"id"`                // hex, of the record's statement.Envelope.ID
	Receipt string `json:"receipt,omitempty"` // of its ledger entry; left out when it was published before
}

// bodyTimeout bounds the reading of a request, answerTimeout that of its answer by the client; streams set their own.
const (
	bodyTimeout   = 10 * time.Second
	answerTimeout = 30 * time.Second
)

// Handler serves what docs/openapi/authority.yaml describes.
func (a *Authority) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range a.routes() {
		mux.HandleFunc(pattern, handle)
	}
	return serve.Access(a.log, serve.Bounded(bodyTimeout, answerTimeout, mux))
}

// routes are the handlers by method and path.
func (a *Authority) routes() map[string]http.HandlerFunc {
	all := map[string]http.HandlerFunc{
		"GET " + feed.Path:     a.stream,
		"POST /v1/records":     a.takeRecord,
		"POST /v1/handovers":   a.takeHandover,
		"GET /v1/status":       func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.Status()) },
		"GET /v1/openapi.json": describeAPI,
	}
	maps.Copy(all, a.signalRoutes())
	if a.tokens != nil {
		maps.Copy(all, a.tokens.Routes())
	}
	return all
}

// describeAPI serves the description as JSON.
func describeAPI(w http.ResponseWriter, _ *http.Request) {
	b, err := yaml.YAMLToJSON(openapi.Authority)
	if err != nil {
		fault(w, http.StatusInternalServerError, "the description cannot be read", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b)
}

func (a *Authority) takeRecord(w http.ResponseWriter, r *http.Request) {
	if b, ok := body(w, r, feed.MaxRecord); ok {
		a.post(w, r, &feed.Frame{Record: b})
	}
}

func (a *Authority) takeHandover(w http.ResponseWriter, r *http.Request) {
	b, ok := body(w, r, 2*(feed.MaxRecord+feed.MaxSealed))
	if !ok {
		return
	}
	frame, err := feed.ParseFrame(b)
	if err == nil && frame.Record == nil {
		err = feed.ErrFrame
	}
	if err != nil {
		fault(w, http.StatusBadRequest, "want {\"record\": …, \"sealed\": …}, each base64", err)
		return
	}
	a.post(w, r, frame)
}

// What is posted costs signatures' checks, most of it under the lock that publishing needs: of each kind so many may come at once, and one in
// each step after that.
const (
	paceStep  = 20 * time.Millisecond
	paceBurst = 100
)

var errPace = errors.New("more come than are taken: try again in a second")

func (a *Authority) post(w http.ResponseWriter, r *http.Request, frame *feed.Frame) {
	if !a.posts.Allows(r.RemoteAddr, time.Now()) {
		w.Header().Set("Retry-After", "1")
		fault(w, http.StatusServiceUnavailable, "record not taken", errPace)
		return
	}
	receipt, err := a.Take(frame, "post")
	if err != nil {
		fault(w, statusOf(err), "record not published", err)
		return
	}
	env, _, err := feed.ParseRecord(frame.Record)
	if err != nil { // Take has parsed it
		fault(w, http.StatusInternalServerError, "record", err)
		return
	}
	sum := env.ID()
	answer(w, http.StatusOK, Accepted{hex.EncodeToString(sum[:]), receipt})
}

// statusOf maps an error to the HTTP status of its answer.
func statusOf(err error) int {
	switch {
	case errors.Is(err, feed.ErrFrame):
		return http.StatusBadRequest
	case errors.Is(err, statement.ErrRefused):
		return http.StatusForbidden
	case errors.Is(err, ErrOther):
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable // standing by, no set yet, ledger or disk: the sender tries again
}

func body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		fault(w, http.StatusInternalServerError, "the connection cannot be bounded", err)
		return nil, false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		fault(w, http.StatusRequestEntityTooLarge, "the body is too large", err)
	case err != nil:
		fault(w, http.StatusBadRequest, "the body could not be read", err)
	}
	return b, err == nil
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func fault(w http.ResponseWriter, status int, what string, err error) {
	if err != nil {
		what += ": " + err.Error()
	}
	answer(w, status, map[string]string{"error": what})
}
