package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/workload"
)

// Order is one thing that the drill tells an attacker to do. The attacker has what its process has and nothing more.
type Order struct {
	Search *loot.Target `json:"search,omitempty"`
	Forge  *Forgery     `json:"forge,omitempty"`
	Post   *Post        `json:"post,omitempty"`
	Wire   *Wire        `json:"wire,omitempty"` // a captured authority's
	Reach  *Reach       `json:"reach,omitempty"`
}

// Post is a form sent to the authority, as whoever reaches its token endpoint can.
type Post struct {
	URL  string     `json:"url"`
	Form url.Values `json:"form"`
}

// Forgery is a call to the custodian as whoever owns the gateway would make it.
type Forgery struct {
	Name    string        `json:"name"`
	Socket  string        `json:"socket"`
	Open    hop.Open      `json:"open"`
	Needles []loot.Needle `json:"needles"`
}

// Taken is what an order brought.
type Taken struct {
	Survey  *loot.Survey `json:"survey,omitempty"`
	Answer  *Answer      `json:"answer,omitempty"`
	Reached []Reached    `json:"reached,omitempty"`
	Error   string       `json:"error,omitempty"` // the attacker itself failed: the drill cannot judge
}

// Answer is what the custodian said to a forgery, or the token endpoint to a form.
type Answer struct {
	Refused string        `json:"refused,omitempty"` // code; empty when the call went through
	Status  int           `json:"status"`
	Broken  bool          `json:"broken"` // the stream was cut
	Bytes   int64         `json:"bytes"`
	Receipt string        `json:"receipt,omitempty"`
	Found   []loot.Needle `json:"found,omitempty"` // secrets in head, body, trailer or joined deltas
}

// how is the answer in a word.
func (a *Answer) how() string {
	switch {
	case a.Broken:
		return "connection closed"
	case a.Refused == "":
		return "WENT THROUGH"
	}
	return a.Refused
}

// ServeAttacker carries out orders from a Unix socket until ctx ends: one JSON order a connection, one JSON answer. maps is for
// loot.Search, wire takes orders for the wire, where there is one.
func ServeAttacker(ctx context.Context, l net.Listener, maps *os.File, wire func(*Wire)) error {
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			return context.Cause(ctx)
		}
		var o Order
		taken := Taken{}
		if err := json.NewDecoder(c).Decode(&o); err != nil {
			taken.Error = err.Error()
		} else if o.Wire != nil && wire != nil {
			wire(o.Wire)
		} else {
			taken = carryOut(ctx, o, maps)
		}
		json.NewEncoder(c).Encode(taken) // the drill notices a missing answer
		c.Close()
	}
}

func carryOut(ctx context.Context, o Order, maps *os.File) Taken {
	switch {
	case o.Search != nil:
		s := loot.Search(*o.Search, maps)
		return Taken{Survey: &s}
	case o.Forge != nil:
		a, err := o.Forge.call(ctx)
		if err != nil {
			return Taken{Error: err.Error()}
		}
		return Taken{Answer: a}
	case o.Post != nil:
		a, err := o.Post.send(ctx)
		if err != nil {
			return Taken{Error: err.Error()}
		}
		return Taken{Answer: a}
	case o.Reach != nil:
		return Taken{Reached: o.Reach.try(ctx)}
	}
	return Taken{Error: "an order to do nothing"}
}

// send posts the form. What is refused has a status of its own and an OAuth error code (RFC 6749 section 5.2).
func (p *Post) send(ctx context.Context) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, strings.NewReader(p.Form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var said struct {
		Code string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&said); err != nil {
		return nil, fmt.Errorf("reading the token endpoint's answer: %w", err)
	}
	return &Answer{Refused: said.Code, Status: resp.StatusCode}, nil
}

// order sends one order to the attacker at a Unix socket.
func order(ctx context.Context, socket string, o Order) (Taken, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return Taken{}, fmt.Errorf("reaching the attacker: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Minute))
	if err := json.NewEncoder(c).Encode(o); err != nil {
		return Taken{}, fmt.Errorf("telling the attacker: %w", err)
	}
	var t Taken
	if err := json.NewDecoder(c).Decode(&t); err != nil {
		return Taken{}, fmt.Errorf("hearing from the attacker: %w", err)
	}
	if t.Error != "" {
		return Taken{}, fmt.Errorf("the attacker failed: %s", t.Error)
	}
	return t, nil
}

func (f *Forgery) call(ctx context.Context) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client := hop.NewClient(hop.ClientConfig{Dial: hop.Unix(f.Socket), Conns: 1})
	defer client.Close()
	if f.Open.Proof.Kind == "" {
		f.Open.Proof = workload.Proof{Kind: "bearer"}
	}
	resp, err := client.Do(ctx, &f.Open)
	var refusal *hop.Refusal
	switch {
	case errors.As(err, &refusal):
		a := &Answer{Refused: refusal.Code, Status: refusal.Status, Receipt: refusal.Receipt}
		a.look(f.Needles, []byte(refusal.Message))
		return a, nil
	case errors.Is(err, hop.ErrBroken):
		return &Answer{Broken: true}, nil
	case err != nil:
		return nil, err
	}
	defer resp.Body.Close()
	a := &Answer{Status: resp.Status}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	a.Broken, a.Bytes = err != nil, int64(len(body))
	a.look(f.Needles, body)
	a.look(f.Needles, joinDeltas(body))
	a.fields(f.Needles, resp.Header)
	if !a.Broken && resp.Trailer != nil {
		a.fields(f.Needles, resp.Trailer())
	}
	return a, nil
}

func (a *Answer) fields(needles []loot.Needle, fields []hop.Field) {
	for _, h := range fields {
		if h.Name == "Reeve-Receipt" {
			a.Receipt = h.Value
		}
		a.look(needles, []byte(h.Name+": "+h.Value))
	}
}

// look searches b as it came, and without its line ends, written out or escaped.
func (a *Answer) look(needles []loot.Needle, b []byte) {
	found := loot.Find(needles, b)
	if len(found) == 0 {
		found = loot.Find(needles, lineEnds.ReplaceAll(b, nil))
	}
	a.Found = append(a.Found, found...)
}

var lineEnds = regexp.MustCompile(`[\r\n]|\\[rn]`)

// deltas are the text pieces of a streamed answer in both dialects.
var deltas = regexp.MustCompile(`"(?:content|delta|text|partial_json|arguments|thinking)":("(?:[^"\\]|\\.)*")`)

// joinDeltas puts the text pieces of a stream together, as the client's SDK does: a key cut over two events is whole again.
func joinDeltas(body []byte) []byte {
	var joined []byte
	for _, m := range deltas.FindAllSubmatch(body, -1) {
		if text, err := strconv.Unquote(string(m[1])); err == nil {
			joined = append(joined, text...)
		}
	}
	return joined
}
