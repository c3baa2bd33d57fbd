package detect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/reevehq/reeve/internal/audit/webhook"
)

// patience is how long a receiver has to take a finding.
const patience = 10 * time.Second

// Sink takes findings: what it took without an error has arrived.
type Sink interface {
	Send(ctx context.Context, f *Finding) error
}

// Webhook posts each finding as JSON. The receiver answers 2xx when it has it; the same id comes again when its answer did not.
type Webhook struct {
	url    string
	client *http.Client
}

// NewWebhook returns a webhook at an https address, or an http one on this machine.
func NewWebhook(address string) (*Webhook, error) {
	if err := webhook.Check(address); err != nil {
		return nil, err
	}
	return &Webhook{address, webhook.Client(patience)}, nil
}

// Send implements Sink.
func (w *Webhook) Send(ctx context.Context, f *Finding) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("the webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", f.ID)
	res, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("the webhook did not take a finding: %w", err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the webhook did not take a finding: it answered %s", res.Status)
	}
	return nil
}
