package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	maxAnswer = 256 << 10        // bytes of an endpoint's answer
	patience  = 10 * time.Second // for one exchange with an endpoint
)

// Resolver looks a host up.
type Resolver = func(ctx context.Context, host string) ([]netip.Addr, error)

// Client speaks with the one endpoint of a record, over the same connections as a credential's use: checked addresses, no redirect, at
// most one send, no replay.
type Client struct {
	pool *egress.Pool
	path string // of the record's URL
	name string // its host, for errors
}

// Request is one exchange. Secrets go into Secret or Body, which the caller wipes; never into Path.
type Request struct {
	Method string
	Path   string // with query; empty means that of the record's URL
	Header []hop.Field
	Secret egress.Secret
	Body   []byte
}

// Answer is what an endpoint answered, whatever its status. Body is the caller's to wipe.
type Answer struct {
	Status int
	Header []hop.Field
	Body   []byte
}

// NewClient returns a client without connections. edit may change the egress configuration, to add a client certificate for example.
func NewClient(from statement.From, resolve Resolver, edit ...func(*egress.Config)) (*Client, error) {
	u, err := url.Parse(from.URL)
	if err == nil && (u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		err = errors.New("it holds more than https://host:port/path")
	}
	if err != nil {
		return nil, fmt.Errorf("from.url: %w", err)
	}
	cfg := egress.Config{
		Destination: statement.Destination{Origin: u.Scheme + "://" + u.Host, Networks: from.Networks, CA: from.CA, Proxy: from.Proxy, ProxyNetworks: from.ProxyNetworks},
		Resolve:     resolve, HeaderTimeout: patience, IdleTimeout: patience, IdleConns: 2,
	}
	for _, f := range edit {
		f(&cfg)
	}
	pool, err := egress.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	return &Client{pool: pool, path: u.EscapedPath(), name: u.Host}, nil
}

// Do makes one exchange. Its error wraps ErrDown when no answer came, ErrMalformed when it was too long or encoded, or ErrRefused when it
// sends elsewhere; none quotes the answer, which may hold a secret.
func (c *Client) Do(ctx context.Context, r Request) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if r.Path == "" {
		r.Path = c.path
	}
	header := append([]hop.Field{{Name: "Accept-Encoding", Value: "identity"}}, r.Header...)
	if !slices.ContainsFunc(r.Header, func(f hop.Field) bool { return f.Name == "Accept" }) {
		header = append(header, hop.Field{Name: "Accept", Value: "application/json"})
	}
	resp, err := c.pool.Send(ctx, &egress.Request{Method: r.Method, Target: []byte(r.Path), Secrets: [2]egress.Secret{r.Secret}, Body: r.Body, Header: header})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDown, c.name, err)
	}
	defer resp.Body.Close()
	if resp.Status >= 300 && resp.Status < 400 {
		return nil, fmt.Errorf("%w: %s sends elsewhere (status %d); nothing is sent after it", ErrRefused, c.name, resp.Status)
	}
	for _, f := range resp.Header {
		if strings.EqualFold(f.Name, "Content-Encoding") && !strings.EqualFold(f.Value, "identity") {
			return nil, fmt.Errorf("%w: %s answered in an encoding that was not asked for", ErrMalformed, c.name)
		}
	}
	if resp.Length > maxAnswer {
		return nil, c.tooLong()
	}
	body, err := read(resp.Body)
	if err != nil {
		clear(body)
		if errors.Is(err, errTooLong) {
			return nil, c.tooLong()
		}
		return nil, fmt.Errorf("%w: %s broke off its answer", ErrDown, c.name)
	}
	return &Answer{resp.Status, resp.Header, body}, nil
}

// Err is nil for an answer of the 2xx class. Otherwise it wraps what the status means: ErrDown for 429 and 5xx, ErrRefused for other
// 4xx, ErrMalformed for the rest.
func (a *Answer) Err() error {
	kind := ErrMalformed
	switch {
	case a.Status >= 200 && a.Status < 300:
		return nil
	case a.Status == 429 || a.Status >= 500:
		kind = ErrDown
	case a.Status >= 400:
		kind = ErrRefused
	}
	return fmt.Errorf("%w: status %d", kind, a.Status)
}

// Close ends every connection at once.
func (c *Client) Close() { c.pool.Close() }

func (c *Client) tooLong() error {
	return fmt.Errorf("%w: %s answered with more than %d bytes", ErrMalformed, c.name, maxAnswer)
}

var errTooLong = errors.New("too long")

// read reads all of a short body, and leaves no copy behind by growing.
func read(r io.Reader) ([]byte, error) {
	body := make([]byte, 0, 4<<10)
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > maxAnswer:
			return body, errTooLong
		case err == io.EOF:
			return body, nil
		case err != nil:
			return body, err
		case len(body) == cap(body):
			larger := make([]byte, len(body), 4*cap(body))
			copy(larger, body)
			clear(body)
			body = larger
		}
	}
}
