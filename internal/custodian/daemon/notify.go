package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/reevehq/reeve/internal/custodian/glass"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	notifyTimeout = 5 * time.Second
	notifyTries   = 4 // within about a minute
)

// notice is what a person's notify URL is sent.
type notice struct {
	Estate     string    `json:"estate"`
	Custodian  string    `json:"custodian"`
	Person     string    `json:"person"`
	Event      string    `json:"event"` // break_glass or recovery
	Record     string    `json:"record"`
	Credential string    `json:"credential"`
	Workload   string    `json:"workload,omitempty"`
	Waive      []string  `json:"waive,omitempty"`
	Recipient  string    `json:"recipient,omitempty"`
	Signers    []string  `json:"signers"`
	Reason     string    `json:"reason"`
	Until      time.Time `json:"until"`
}

// notify tells the owners of a break-glass, each at the URL that the charter has for him. Whom it cannot tell is an alarm.
func (h *host) notify(k *glass.Case, owners []*statement.Person) {
	event := "break_glass"
	if k.Recovers() {
		event = "recovery"
	}
	for _, p := range owners {
		if p.Notify == "" {
			continue
		}
		text, err := json.Marshal(notice{h.cfg.EstateTrust.Estate, h.cfg.ID, p.ID, event, k.Record, k.Credential, k.Workload, k.Waive, k.Recipient, k.Signers, k.Reason, k.Until})
		if err != nil {
			panic("daemon: encoding a notice: " + err.Error()) // strings and a time: cannot fail
		}
		go h.tell(p.ID, p.Notify, text)
	}
}

func (h *host) tell(person, url string, text []byte) {
	var err error
	for try := range notifyTries {
		if err = post(url, text); err == nil {
			return
		}
		time.Sleep(time.Duration(1<<(2*try)) * time.Second)
	}
	h.Log.Error("a person could not be told of a break-glass", "person", person, "error", err)
	h.Alarm("break_glass_untold")
}

func post(url string, text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) // no redirects
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}
