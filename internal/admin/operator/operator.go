// Package operator asks a custodian over its admin socket.
package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	maxAnswer = 8 << 20 // bytes
	timeout   = 10 * time.Second
)

// Client is an operator's end. Safe for concurrent use.
type Client struct {
	socket string
	http   http.Client
}

// New returns a client of the socket at a path.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket, http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: timeout}}
}

// Status asks for the custodian's state.
func (c *Client) Status(ctx context.Context) (*admin.Status, error) {
	var s admin.Status
	return &s, c.do(ctx, http.MethodGet, "/status", nil, &s)
}

// Freeze closes a target at once and returns what was done.
func (c *Client) Freeze(ctx context.Context, target statement.Target, reason string) (string, error) {
	body, err := json.Marshal(admin.Freeze{Target: target, Reason: reason})
	if err != nil {
		return "", err
	}
	return c.act(ctx, "/freeze", body)
}

// Accept hands the file of a signed record over: a revocation, or an extension of the witness fuse or the feed bound.
func (c *Client) Accept(ctx context.Context, record []byte) (string, error) {
	return c.act(ctx, "/accept", record)
}

// Recovered fetches the secret that a break-glass recovered, encrypted to the person whom it names.
func (c *Client) Recovered(ctx context.Context, record string) ([]byte, error) {
	var r admin.Reply
	err := c.do(ctx, http.MethodGet, "/recovered/"+record, nil, &r)
	if err == nil && r.Error != "" {
		err = fmt.Errorf("the custodian: %s", r.Error)
	}
	return r.Ciphertext, err
}

// Reload makes the custodian read sets and records again.
func (c *Client) Reload(ctx context.Context) (string, error) { return c.act(ctx, "/reload", nil) }

func (c *Client) act(ctx context.Context, path string, body []byte) (string, error) {
	var r admin.Reply
	err := c.do(ctx, http.MethodPost, path, body, &r)
	if err == nil && r.Error != "" {
		err = fmt.Errorf("the custodian: %s", r.Error)
	}
	return r.Done, err
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://custodian"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
			return fmt.Errorf("no custodian runs at %s (%w): nothing is used by it now, and nothing can be asked or told; start it with reeve up", c.socket, err)
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("the custodian at %s answers its own user and root: %w", c.socket, err)
		}
		return fmt.Errorf("asking the custodian at %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("reading the custodian's answer (%s): %w", resp.Status, err)
	}
	return nil
}
