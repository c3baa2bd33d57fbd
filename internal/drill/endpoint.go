package drill

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/federation"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// endpoint is a token endpoint that an attacker has taken over, with a certificate that its users trust, and beside it what he would lead them to.
type endpoint struct {
	listener net.Listener
	url      string
	ca       *upstream.CA

	mu    sync.Mutex
	asked map[string]int // requests by path
}

// The ways in which it attacks. Each is a credential of research, by its path.
const (
	redirects = "redirects" // to where the attacker listens
	leads     = "leads"     // names the attacker's host in a good answer
	floods    = "floods"    // with an answer of a megabyte that begins as a good one
	rebound   = "rebound"   // its name has come to lead to an address inside
	taken     = "taken"     // is where the attacker listens
)

func newEndpoint() (*endpoint, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("placing the attacker's token endpoint: %w", err)
	}
	return &endpoint{listener: l, url: "https://" + l.Addr().String(), asked: map[string]int{}}, nil
}

// federate gives research a credential for each way. They are used nowhere else.
func (f *field) federate(p *estate.Plan) {
	cu := p.Custody["research"]
	jwk, err := federation.NewKey(f.dir.Join(host.Custodian, "federation"), cu.Unit, "ES256", cu.Custodians[0].Recipient)
	if err != nil {
		f.planned = err
		return
	}
	now := time.Now()
	fed := federation.Add(statement.Federation{Issuer: "https://federation.drill.invalid", TrustDomain: "drill.invalid"}, federation.Entry(cu.Custodians[0].ID, jwk, now), now)
	cu.Federation = &fed
	like := cu.Credentials[0]
	for _, way := range []string{redirects, leads, floods, rebound} {
		c := like
		c.ID, c.Source, c.MaxLifetime = "research-"+way, "federation", statement.Duration(time.Hour)
		c.From = statement.From{URL: f.endpoint.url + "/" + way, Networks: like.Destination.Networks, CA: like.Destination.CA,
			Parameters: map[string]string{"exchange": "generic", "audience": "drill"}}
		if way == rebound {
			c.From.URL, c.From.Networks = strings.Replace(c.From.URL, "127.0.0.1", "localhost", 1), []string{"127.0.0.2/32"}
		}
		cu.Credentials = append(cu.Credentials, c)
	}
}

// serve answers until the listener is closed.
func (e *endpoint) serve(ca *upstream.CA) error {
	e.ca = ca
	cert, err := ca.Leaf(time.Now())
	if err != nil {
		return err
	}
	s := &http.Server{Handler: e, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 5 * time.Second}
	go s.Serve(tls.NewListener(e.listener, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
	return nil
}

func (e *endpoint) count(way string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked[way]
}

const plausible = `{"access_token":"drill-token-of-an-attacker-0123456789","token_type":"Bearer","expires_in":300`

// ServeHTTP is the attack.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	way := strings.Trim(r.URL.Path, "/")
	e.mu.Lock()
	e.asked[way]++
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch way {
	case redirects:
		http.Redirect(w, r, e.url+"/"+taken, http.StatusTemporaryRedirect)
	case leads:
		w.Header().Set("Content-Location", e.url+"/"+taken)
		fmt.Fprintf(w, `%s,"api_base":%[2]q,"resource":%[2]q,"url":%[2]q}`, plausible, e.url+"/"+taken)
	case floods:
		io.WriteString(w, plausible+`,"pad":"`)
		for range 1 << 10 {
			w.Write(bytes.Repeat([]byte("x"), 1<<10))
		}
		io.WriteString(w, `"}`)
	default:
		io.WriteString(w, plausible+"}")
	}
}

// s4sources is a source of secrets that has been taken over: it answers with what leads elsewhere, or without end.
func (f *field) s4sources(ctx context.Context, r *Report, _ *doubled) error {
	f.say("S4: the token endpoint is the attacker's.")
	own := f.clients[0]
	for _, c := range []struct{ way, place string }{
		{redirects, "a token endpoint that redirects"}, {leads, "a token endpoint that names another host"},
		{floods, "a token endpoint that answers without end"}, {rebound, "a token endpoint whose name leads inside"},
	} {
		before := f.endpoint.count(taken)
		forgery := f.forgeries("research-"+c.way, own, own)[0]
		forgery.Open.Proof.Value = []byte(own.key)
		got, err := order(ctx, f.inside(), Order{Forge: &forgery})
		if err != nil {
			return err
		}
		s := Line{ID: "S4", Place: c.place, Reeve: f.endpoint.count(taken) - before, Detail: got.Answer.how()}
		if c.way == leads { // the token is a token: the call goes where custody says
			s.Detail = fmt.Sprintf("the call went to the signed destination; the named host was asked %d times", s.Reeve)
		}
		asked := f.endpoint.count(c.way)
		switch {
		case c.way == rebound && asked > 0, (c.way == redirects || c.way == floods) && got.Answer.Refused == "":
			s.Reeve++
		case c.way != rebound && asked == 0:
			return fmt.Errorf("%s was never asked (%s): nothing can be said of it", c.place, got.Answer.how())
		}
		if s.Double, err = f.endpoint.naive(ctx, c.way); err != nil {
			return fmt.Errorf("%s, by the double: %w", c.place, err)
		}
		r.add(s)
	}
	return nil
}

// naive fetches a token as a program does that takes an HTTP client as it comes, and returns 1 when that went wrong.
func (e *endpoint) naive(ctx context.Context, way string) (int, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.ca.PEM)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	url := e.url + "/" + way
	if way == rebound {
		url = strings.Replace(url, "127.0.0.1", "localhost", 1)
	}
	before, asked := e.count(taken), e.count(way)
	body, err := post(ctx, client, url)
	if err != nil {
		return 0, err
	}
	var token struct {
		Token string `json:"access_token"`
		Base  string `json:"api_base"`
	}
	if err := json.Unmarshal(body, &token); err != nil || token.Token == "" {
		return 0, errors.Join(errors.New("it got no token"), err)
	}
	if token.Base != "" {
		if _, err := post(ctx, client, token.Base); err != nil {
			return 0, err
		}
	}
	if e.count(taken) > before || way == floods && len(body) > 1<<20 || way == rebound && e.count(way) > asked {
		return 1, nil
	}
	return 0, nil
}

func post(ctx context.Context, c *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("grant_type=x"))
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
