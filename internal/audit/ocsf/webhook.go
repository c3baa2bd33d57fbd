package ocsf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/reevehq/reeve/internal/audit/webhook"
)

// ErrRefused means that the receiver does not take the events, and that sending them again would not help.
var ErrRefused = errors.New("the webhook refuses the events")

// Webhook posts events, as JSON lines, and sends a batch again until it is taken. Idempotency-Key is the same for the same batch.
type Webhook struct {
	url    string
	header http.Header
	client *http.Client
	sleep  func(context.Context, time.Duration) error
	notice func(error, time.Duration) // of a try that failed, and how long until the next
}

const (
	firstWait = time.Second
	lastWait  = time.Minute
)

// NewWebhook returns a webhook at an https address, or an http one on this machine.
func NewWebhook(address string, header http.Header, notice func(error, time.Duration)) (*Webhook, error) {
	if err := webhook.Check(address); err != nil {
		return nil, err
	}
	return &Webhook{url: address, header: header, notice: notice, sleep: sleep, client: webhook.Client(30 * time.Second)}, nil
}

// Send implements Sink. Timeouts, 408, 429 and 5xx are tried again, for ever; other answers than 2xx are ErrRefused.
func (w *Webhook) Send(ctx context.Context, b Batch) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		after, err := w.post(ctx, b)
		if err == nil || errors.Is(err, ErrRefused) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause := max(after, wait/2+rand.N(wait/2)) // nobody waits in step with others
		if w.notice != nil {
			w.notice(err, pause)
		}
		if err := w.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// post tries once. after is what the receiver asks to wait.
func (w *Webhook) post(ctx context.Context, b Batch) (after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, "POST", w.url, bytes.NewReader(b.Lines))
	if err != nil {
		return 0, fmt.Errorf("%w: %v", ErrRefused, err)
	}
	for k, v := range w.header {
		r.Header[k] = v
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("Idempotency-Key", b.First+"-"+b.Last)
	resp, err := w.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	switch s := resp.StatusCode; {
	case s >= 200 && s <= 299:
		return 0, nil
	case s == http.StatusRequestTimeout || s == http.StatusTooManyRequests || s >= 500:
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
			after = min(time.Duration(n)*time.Second, 10*lastWait)
		}
		return after, fmt.Errorf("the webhook answers %s", resp.Status)
	}
	return 0, fmt.Errorf("%w: it answers %s", ErrRefused, resp.Status)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
