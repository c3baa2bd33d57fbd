package up

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/host"
)

// Health is what a process says of itself.
type Health struct {
	Ready   bool              `json:"ready"`
	Reasons map[string]string `json:"reasons"` // what is waited for, by name; an empty reason is ready
	Error   string            `json:"error,omitempty"`
}

// Waits are the reasons that are not empty, for a person.
func (h *Health) Waits() string {
	if h.Error != "" {
		return h.Error
	}
	var all []string
	for name, reason := range h.Reasons {
		if reason != "" {
			all = append(all, name+": "+reason)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// Probe asks a process's ops socket whether it is ready.
func Probe(ctx context.Context, d *host.Dir, process string) Health {
	if process == host.Upstream {
		return probePort(ctx, d.Run.Ports.Upstream)
	}
	socket := d.Socket(process, "ops")
	client := http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+process+"/readyz", nil)
	if err != nil {
		return Health{Error: err.Error()}
	}
	res, err := client.Do(req)
	if err != nil {
		return Health{Error: "not listening yet"}
	}
	defer res.Body.Close()
	var h Health
	if err := json.NewDecoder(res.Body).Decode(&h); err != nil {
		return Health{Error: fmt.Sprintf("answered %s without a reason", res.Status)}
	}
	return h
}

// probePort is for the demo upstream, which has no ops listener.
func probePort(ctx context.Context, port int) Health {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host.Local(port))
	if err != nil {
		return Health{Error: "not listening yet"}
	}
	conn.Close()
	return Health{Ready: true}
}
