package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

// bodyLimit is beyond every body_bytes that operations may sign: the custodian's own limit decides.
const bodyLimit = 1 << 30

// custodians are this gateway's ways to its custodians, and which of them serve what by the set in force. It is a Custodian.
type custodians struct {
	cfg *Config
	key *hop.Key // nil when no custodian is on another machine

	mu      sync.Mutex      // guards ways
	ways    map[string]*way // by custodian id
	serving atomic.Pointer[map[string][]*way]
}

// way leads to one custodian. It is replaced when the key that the statements give the custodian changes.
type way struct {
	id     string
	peer   string // its key in the statements; empty for a socket
	client *hop.Client
	down   atomic.Bool // was not reached when asked last
}

func newCustodians(cfg *Config) (*custodians, error) {
	c := &custodians{cfg: cfg, ways: map[string]*way{}}
	c.serving.Store(&map[string][]*way{})
	if cfg.Hop.Key == "" {
		return c, nil
	}
	var err error
	c.key, err = hop.ReadKey(cfg.Hop.Key)
	return c, err
}

// use makes the ways that a set names and lets go of those that lead to a key that it does not name any more: what is in flight
// there may finish for as long as the drain lasts.
func (c *custodians) use(set *statement.Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, to := range c.cfg.Hop.Custodians {
		peer := ""
		if to.Address != "" {
			peer = set.Peer(c.cfg.ID, to.ID)
		}
		old := c.ways[to.ID]
		if old != nil && old.peer == peer {
			continue
		}
		c.ways[to.ID] = c.way(to, peer)
		if old != nil {
			go c.retire(old)
		}
	}
	serving := map[string][]*way{}
	for _, custody := range set.Custody {
		for i := range custody.Credentials {
			credential := custody.Credentials[i].ID
			for _, id := range set.Custodians(c.cfg.ID, credential) {
				if w := c.ways[id]; w != nil {
					serving[credential] = append(serving[credential], w)
				}
			}
		}
	}
	c.serving.Store(&serving)
}

func (c *custodians) way(to HopCustodian, peer string) *way {
	dial := hop.Unix(to.Socket)
	if to.Address != "" {
		dial = func(ctx context.Context) (net.Conn, error) {
			if peer == "" {
				return nil, fmt.Errorf("the custody statement gives %s no peer key; its lifecycle owner adds it: reeve host key", to.ID)
			}
			probes := net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3} // a machine that is gone says nothing
			return (&tls.Dialer{NetDialer: &net.Dialer{KeepAliveConfig: probes}, Config: hop.ClientTLS(c.key, peer)}).DialContext(ctx, "tcp", to.Address)
		}
	}
	return &way{id: to.ID, peer: peer, client: hop.NewClient(hop.ClientConfig{Dial: dial, Conns: c.cfg.Hop.Conns, Limits: hop.Limits{Body: bodyLimit}})}
}

func (c *custodians) retire(w *way) {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Drain)
	defer cancel()
	w.client.Shutdown(ctx)
}

func (c *custodians) close() {
	for _, w := range c.all() {
		w.client.Close()
	}
}

func (c *custodians) all() []*way {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.ways))
}

// Do implements Custodian: it asks the first of those that serve the credential, and the next one only when the one before was
// not reached and nothing was sent.
func (c *custodians) Do(ctx context.Context, o *hop.Open) (*hop.Response, error) {
	ways := (*c.serving.Load())[o.Credential]
	var err error
	for _, late := range [...]bool{false, true} { // those that were not reached lately come last
		for _, w := range ways {
			if w.down.Load() != late {
				continue
			}
			resp, failed := w.client.Do(ctx, o)
			if !errors.Is(failed, hop.ErrUnavailable) {
				return resp, failed
			}
			w.down.Store(true)
			err = failed
		}
	}
	if err == nil {
		err = fmt.Errorf("%w: no custodian that this gateway has a way to serves %s", hop.ErrUnavailable, o.Credential)
	}
	return nil, err
}

// record hands a signed record to every custodian.
func (c *custodians) record(ctx context.Context, file []byte) (err error) {
	for _, w := range c.all() {
		if failed := w.client.Record(ctx, file); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", w.id, failed))
		}
	}
	return err
}

// ready asks every custodian whether it is there. It returns an error when one whose credentials no other serves is not, and
// else a note about those that are not.
func (c *custodians) ready(ctx context.Context) (note string, err error) {
	reasons := map[*way]error{}
	for _, w := range c.all() {
		asking, cancel := context.WithTimeout(ctx, time.Second)
		reason := w.client.Ready(asking)
		cancel()
		if w.down.Store(reason != nil); reason != nil {
			reasons[w] = fmt.Errorf("%s: %w", w.id, reason)
			note = reasons[w].Error()
		}
	}
	for credential, ways := range *c.serving.Load() {
		var down []error
		for _, w := range ways {
			if reasons[w] == nil {
				down = nil
				break
			}
			down = append(down, reasons[w])
		}
		if down != nil {
			return "", fmt.Errorf("no custodian of %s is reached: %w", credential, errors.Join(down...))
		}
	}
	return note, nil
}
