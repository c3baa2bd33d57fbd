// Package relay is a second way for signed records to a custodian, as a listener has it. The relay is internal/relay/server.
//
// Both ends speak HTTP/1.1 at Path. A POST carries a record's file. A GET is answered with one response that lasts until either
// side ends it: each line is a record's file, an empty line says only that the relay is there.
package relay

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/feed"
)

const (
	// Path of a relay below its URL.
	Path = "/v1/records"
	// Pulse is the time between two empty lines.
	Pulse = 2 * time.Second

	patience = 3 * Pulse              // without a line, after which a listener dials again
	backoff  = 500 * time.Millisecond // before it does
)

// Listen dials a relay, and again whenever the connection ends, until ctx ends. It calls take with each record's file, one at a
// time, and tell when the relay is lost (with the reason) or there again (nil).
func Listen(ctx context.Context, url string, config *tls.Config, take func(file []byte), tell func(error)) {
	for ctx.Err() == nil {
		err := listen(ctx, url, config, take, func() { tell(nil) })
		if ctx.Err() == nil {
			tell(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
}

func listen(ctx context.Context, url string, config *tls.Config, take func([]byte), there func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(patience, func() { cancel(errors.New("nothing came from it in time")) })
	defer silence.Stop()
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: patience}).DialContext, TLSClientConfig: config, Protocols: http1,
		MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+Path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req) // no redirects
	if err != nil {
		return fmt.Errorf("the relay %s cannot be reached: %w", url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the relay %s answered %s", url, resp.Status)
	}
	there()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4<<10), feed.MaxRecord+1)
	for lines.Scan() {
		silence.Reset(patience)
		if len(lines.Bytes()) > 0 {
			take(bytes.Clone(lines.Bytes()))
		}
	}
	return fmt.Errorf("the relay %s ended its stream: %w", url, cmp.Or(lines.Err(), context.Cause(ctx), io.EOF))
}
