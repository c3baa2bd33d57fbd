package drill

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Reach is what code in a process tries beside reading: to get out, to stay, and to get at others.
type Reach struct {
	TCP     []string `json:"tcp"`     // addresses to connect to
	Sockets []string `json:"sockets"` // Unix sockets that only operators may speak to
	Folders []string `json:"folders"` // to leave a file in
	Program string   `json:"program"` // to start
	PIDs    []int    `json:"pids"`    // whose memory to write to
}

// Reached is one thing that worked.
type Reached struct {
	What  string `json:"what"` // connect, socket, write, start or memory
	Where string `json:"where"`
}

// try tries all of it.
func (t *Reach) try(ctx context.Context) (got []Reached) {
	for _, address := range t.TCP {
		d := net.Dialer{Timeout: 2 * time.Second}
		if c, err := d.DialContext(ctx, "tcp", address); err == nil {
			c.Close()
			got = append(got, Reached{"connect", address})
		}
	}
	for _, path := range t.Sockets {
		if asked(ctx, path) {
			got = append(got, Reached{"socket", path})
		}
	}
	for _, dir := range t.Folders {
		path := filepath.Join(dir, ".drill")
		if f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600); err == nil {
			f.Close()
			os.Remove(path)
			got = append(got, Reached{"write", dir})
		}
	}
	if t.Program != "" && exec.CommandContext(ctx, t.Program).Run() == nil {
		got = append(got, Reached{"start", t.Program})
	}
	for _, pid := range t.PIDs {
		if f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err == nil {
			f.Close()
			got = append(got, Reached{"memory", fmt.Sprintf("/proc/%d/mem", pid)})
		}
	}
	return got
}

// asked reports whether an operators' socket answers.
func asked(ctx context.Context, path string) bool {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://custodian/status", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}
