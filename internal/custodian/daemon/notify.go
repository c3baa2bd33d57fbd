package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/reevehq/reeve/internal/custodian"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	notifyTimeout = 5 * time.Second
	notifyTries   = 4 // within about a minute
)

// notice is what a person's notify URL is sent.
type notice struct {
	Estate    string `json:"estate"`
	Custodian string `json:"custodian"`
	Person    string `json:"person"`
	custodian.Notice
}

// notify tells people, each at the URL that the charter has for him. Whom it cannot tell is an alarm.
func (h *host) notify(n custodian.Notice, people []*statement.Person) {
	for _, p := range people {
		if p.Notify == "" {
			continue
		}
		text, err := json.Marshal(notice{h.cfg.EstateTrust.Estate, h.cfg.ID, p.ID, n})
		if err != nil {
			panic("daemon: encoding a notice: " + err.Error()) // strings and a time: cannot fail
		}
		go h.tell(n.Event, p, text)
	}
}

func (h *host) tell(event string, p *statement.Person, text []byte) {
	var err error
	for try := range notifyTries {
		if err = post(p.Notify, text); err == nil {
			return
		}
		time.Sleep(time.Duration(1<<(2*try)) * time.Second)
	}
	h.Log.Error("a person could not be told", "event", event, "person", p.ID, "error", err)
	h.Alarm(event + "_untold")
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
