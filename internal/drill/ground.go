package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// What the drill's estate has besides the demo's: workloads that are closed in the course of it, bait, many credentials, and a deputy.
const (
	batch = "research-batch" // chains over many credentials
	thief = "research-thief" // takes bait that closes whoever takes it
	bait  = "research-bait"  // its owner is told
	trap  = "research-trap"  // the workload is closed too

	chained   = 30 // credentials that batch may use
	chainable = 5  // of them in a minute
	newsBound = 10 * time.Second
)

func chain() []string {
	var all []string
	for i := range chained {
		all = append(all, fmt.Sprintf("research-chain-%02d", i+1))
	}
	return all
}

// enlarge plans that.
func (f *field) enlarge(p *estate.Plan) {
	p.Charter.Revocation.Normal = statement.Duration(newsBound)
	cu, po := p.Custody["research"], p.Policies["research"]
	like := cu.Credentials[slices.IndexFunc(cu.Credentials, func(c statement.Credential) bool { return c.ID == "research-openai" })]
	for _, id := range append(chain(), bait, trap) {
		c := like
		c.ID, c.Honey = id, map[string]string{bait: "alarm", trap: "freeze"}[id]
		cu.Credentials = append(cu.Credentials, c)
	}
	text := p.Cedar["research"]["use.cedar"]
	for _, w := range []string{batch, thief} {
		p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: w, Unit: "research", Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}})
		text += fmt.Sprintf("\n@id(%q)\npermit (principal == Workload::%q, action == Action::\"use\", resource in Unit::\"research\");\n", w, w)
	}
	p.Cedar["research"]["use.cedar"] = text
	po.Limits = append(po.Limits, statement.WorkloadLimit{Workload: batch, CredentialsPerMinute: chainable, OnExcess: "freeze"})
	people := p.Charter.People
	i := slices.IndexFunc(people, func(p statement.Person) bool { return p.ID == "cora" })
	dora := people[i]
	dora.ID, dora.Name, dora.Keys = f.deputy.Person, "Dora", []statement.Key{f.deputy.Key()}
	people[i].Deputies, people[i].Notify = []string{dora.ID}, f.pager.url
	p.Charter.People = append(people, dora)
}

// pager is where a person is told.
type pager struct {
	url    string
	server *http.Server

	mu   sync.Mutex
	told []page
}

// page is what he was told.
type page struct {
	Event      string `json:"event"`
	Person     string `json:"person"`
	Credential string `json:"credential"`
	Workload   string `json:"workload"`

	at time.Time
}

func newPager() (*pager, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("placing the owner's pager: %w", err)
	}
	p := &pager{url: "http://" + l.Addr().String() + "/page"}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second}
	go p.server.Serve(l) // until close
	return p, nil
}

func (p *pager) close() { p.server.Close() }

// ServeHTTP implements http.Handler.
func (p *pager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n page
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n.at = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, n)
}

// find is the first page of an event about a credential, or nil.
func (p *pager) find(event, credential string) *page {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.told {
		if n := &p.told[i]; n.Event == event && n.Credential == credential {
			return n
		}
	}
	return nil
}

// as is the client of a workload of research that the drill's estate has besides the demo's.
func (f *field) as(workload string, credentials ...string) (client, error) {
	env, err := readEnv(f.envFile(workload))
	if err != nil {
		return client{}, fmt.Errorf("reading the settings of %s: %w", workload, err)
	}
	c := client{base: env["REEVE_URL"], workload: workload, unit: "research", key: env["REEVE_KEY"], credentials: credentials}
	if c.key == "" {
		return c, errors.New("there is no key of " + workload)
	}
	return c, nil
}
