package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/reevehq/reeve/internal/drill/double"
	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/host"
)

// helper is a process of the gateway's user that the drill started.
type helper struct {
	cmd *exec.Cmd
	pid int
}

func (h *helper) stop() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

// start starts the reeve binary as the gateway's user and waits for its socket.
func (f *field) start(ctx context.Context, socket string, args ...string) (*helper, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(f.dir.Bin, "reeve"), args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if uid := host.UID(host.Gateway); uid >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &helper{cmd, cmd.Process.Pid}
	for range 200 {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return h, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.stop()
	return nil, fmt.Errorf("reeve %s does not answer: %s", strings.Join(args, " "), out.Bytes())
}

func (f *field) startBare(ctx context.Context) (*helper, error) {
	h, err := f.start(ctx, f.beside(), "drill", "attacker", "--socket", f.beside())
	if err != nil {
		return nil, fmt.Errorf("starting the attacker beside the gateway: %w", err)
	}
	return h, nil
}

// doubled is the double, running as the gateway's user with an attacker in it.
type doubled struct {
	*helper
	dir     string // where its configuration lies
	inside  string // the attacker's socket
	config  string
	clients []client
	idle    []client // of credentials that no call before the attack uses
}

func (f *field) startDouble(ctx context.Context) (*doubled, error) {
	d := &doubled{dir: filepath.Join(f.base, "double")}
	d.config, d.inside = filepath.Join(d.dir, "double.json"), filepath.Join(d.dir, "double.sock")
	if err := f.configureDouble(d); err != nil {
		return nil, fmt.Errorf("writing the double's configuration: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	if d.helper, err = f.start(ctx, d.inside, "drill", "double", "--config", d.config, "--listen", addr, "--socket", d.inside); err != nil {
		return nil, fmt.Errorf("starting the double: %w", err)
	}
	for _, c := range f.clients {
		for _, credential := range c.credentials {
			one := c
			one.base, one.key, one.credentials = "http://"+addr, c.key+"."+credential, []string{credential}
			d.clients = append(d.clients, one)
		}
	}
	for _, credential := range append(chain(), bait) {
		d.idle = append(d.idle, client{base: "http://" + addr, unit: "research", key: f.clients[0].key + "." + credential, credentials: []string{credential}})
	}
	return d, nil
}

// configureDouble writes the keys into a file, as operators of such gateways do.
func (f *field) configureDouble(d *doubled) error {
	ca, err := os.ReadFile(f.dir.Join(host.Upstream, "demo-ca", "ca.pem"))
	if err != nil {
		return err
	}
	c := double.Config{Upstream: "https://" + host.Local(f.dir.Run.Ports.Upstream), CA: string(ca), Routes: map[string]double.Route{}}
	for _, own := range f.clients {
		for _, credential := range own.credentials {
			route := double.Route{Credential: credential, Header: "Authorization", Key: "Bearer " + string(f.keys[credential].Reveal())}
			if strings.HasSuffix(credential, "anthropic") {
				route.Header, route.Key = "X-Api-Key", string(f.keys[credential].Reveal())
			}
			c.Routes[own.key+"."+credential] = route
		}
	}
	for _, credential := range append(chain(), bait) {
		c.Routes[f.clients[0].key+"."+credential] = double.Route{Credential: credential, Header: "Authorization", Key: "Bearer " + string(f.keys[credential].Reveal())}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(d.config, b, 0o600); err != nil {
		return err
	}
	if uid := host.UID(host.Gateway); uid >= 0 {
		return errors.Join(os.Chown(d.dir, uid, uid), os.Chown(d.config, uid, uid))
	}
	return nil
}

// call makes a forgery's call through the double and returns how many secrets came back.
func (d *doubled) call(ctx context.Context, own client, credential string, f *Forgery) (int, error) {
	header := map[string]string{}
	for _, h := range f.Open.Header {
		header[h.Name] = h.Value
	}
	for _, c := range d.clients {
		if c.credentials[0] != credential {
			continue
		}
		resp, err := c.do(ctx, credential, f.Open.Body, header)
		if err != nil {
			return 0, nil // a header that Go's client refuses: nothing came
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body) // a broken answer counts as far as it came
		a := Answer{}
		a.look(f.Needles, body)
		a.look(f.Needles, joinDeltas(body))
		for _, fields := range []http.Header{resp.Header, resp.Trailer} {
			for name, values := range fields {
				a.look(f.Needles, []byte(name+": "+strings.Join(values, ", ")))
			}
		}
		return len(a.Found), nil
	}
	return 0, fmt.Errorf("the double has no route for %s", credential)
}

// spend has the attacker in the double read the configuration and look for keys in it: how many credentials it could use at the
// provider without the gateway.
func (f *field) spend(ctx context.Context, d *doubled) (int, error) {
	got, err := order(ctx, d.inside, Order{Search: &loot.Target{Dirs: []string{d.config}, Needles: f.needles}})
	if err != nil {
		return 0, err
	}
	secrets := map[string]bool{}
	for _, h := range got.Survey.Hits {
		secrets[h.Secret] = true
	}
	return len(secrets), nil
}

// Double serves the double until ctx ends, with an attacker in it that takes orders at socket, if one is named.
func Double(ctx context.Context, config, listen, socket string) error {
	c, err := double.Load(config)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	if socket != "" {
		attacker, err := net.Listen("unix", socket)
		if err != nil {
			return err
		}
		go ServeAttacker(ctx, attacker, nil, nil) // ends with ctx
	}
	if err := c.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}
