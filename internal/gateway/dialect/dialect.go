// Package dialect says what a client API needs from the gateway: its routes, its errors, its model lists and the end of its
// streams. One package beside this one implements it for each API.
package dialect

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"time"
)

// Dialect is one provider's client API.
type Dialect interface {
	// Name equals the dialect of the providers that speak it: openai or anthropic.
	Name() string
	// Route finds the route of a path that begins with /v1, exact bytes, without query. allow lists the methods of a path
	// that exists but not with this method; a path that does not exist gives no Route and an empty allow.
	Route(method, path string) (r *Route, allow string)
	// Paths are the paths on which a request names a model in its body.
	Paths() []string
	// Error is the JSON body of an error answer.
	Error(f *Fault) []byte
	// Frame is the server-sent event that reports an error in a stream whose head was sent already.
	Frame(f *Fault) []byte
	// Models is the JSON body of a list of models, paged as query asks.
	Models(list []Model, query url.Values) []byte
	// Model is the JSON body that describes one model.
	Model(m Model) []byte
}

// Serve is what the gateway does with a route.
type Serve int

const (
	Forward Serve = iota // hand the request to the custodian
	List                 // list the models that the workload may use
	Get                  // describe one of them
	Me                   // say what the workload may use
)

// Route is one operation of a client API.
type Route struct {
	Name  string // as in logs and metrics, with {id} for what varies
	Serve Serve
	Named bool   // the body's top-level "model" chooses the provider
	Model string // the model that a Get asks for, decoded
	// Credential is the name in a path that calls an API as its provider has it; empty where the model chooses.
	Credential string
	// Ends reports whether a server-sent event is the last of a complete stream; data may be cut off after its first Head
	// bytes. Nil when the API names no such event.
	Ends func(event, data []byte) bool
}

// Head is how many bytes of an event's name and data Route.Ends gets to see.
const Head = 48

// Fault is an error of the gateway's or the custodian's own. An upstream's errors are passed on as they are.
type Fault struct {
	Status     int    // HTTP status
	Code       string // stable word, such as unauthenticated, model_not_found, policy_denied
	Message    string // what happened, what it means, what to do; safe to show
	Param      string // the request's member that is at fault, or empty
	RequestID  string
	RetryAfter int    // seconds; 0 for none
	Final      bool   // a retry cannot succeed: say so, even where clients retry this status
	Receipt    string // Reeve-Receipt of the custodian's denial entry, or empty
	Nonce      string // Reeve-Nonce of the custodian, for the next signed request, or empty
	Allow      string // methods, for status 405
}

// Model is one model that a workload may use.
type Model struct {
	ID       string // what a client puts into "model"
	Provider string
	Created  time.Time // the zero time when it is not known
}

// Only is the end of Dialect.Route for a path that serves r to one method, and something else to others.
func Only(method, want string, r *Route, others ...string) (*Route, string) {
	if method == want {
		return r, ""
	}
	return nil, strings.Join(append([]string{want}, others...), ", ")
}

// Encode writes v as JSON and leaves <, > and & as they are: messages are read by people. It panics when v cannot be JSON.
func Encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
