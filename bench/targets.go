package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/drill/double"
	"github.com/reevehq/reeve/internal/host"
)

// bench is one run with everything that it started.
type bench struct {
	options
	*demonstration
	base   string
	out    io.Writer
	others []*exec.Cmd
}

// stop ends what was started in a way that lets nginx end its workers.
func (b *bench) stop() {
	for _, c := range b.others {
		c.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(5*time.Second, func() { c.Process.Kill() })
		c.Wait()
		late.Stop()
	}
}

// targets are measured in turns, reeve last.
func (b *bench) targets() ([]*Target, error) {
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(b.caFile())
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(ca)
	all := []*Target{{Name: "direct", Addr: b.upstream(), TLS: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}, Key: b.key}}
	proxy, err := b.startDouble(string(ca))
	if err != nil {
		return nil, fmt.Errorf("starting the one-process proxy: %w", err)
	}
	all = append(all, proxy)
	if nginx, err := exec.LookPath("nginx"); err == nil {
		t, err := b.startNginx(nginx)
		if err != nil {
			return nil, fmt.Errorf("starting nginx: %w", err)
		}
		all = append(all, t)
	}
	reeve, err := b.reeve("reeve")
	return append(all, reeve), err
}

// reeve is the estate's gateway.
func (e *demonstration) reeve(name string) (*Target, error) {
	env, err := os.ReadFile(demo.EnvFile(e.dir, "research-agent"))
	if err != nil {
		return nil, err
	}
	_, key, _ := strings.Cut(string(env), "REEVE_KEY=")
	key, _, _ = strings.Cut(key, "\n")
	return &Target{Name: name, Addr: host.Local(e.dir.Run.Ports.Gateway), Key: key, PIDs: []int{e.pids[host.Gateway], e.pids[host.Custodian]}}, nil
}

func (b *bench) upstream() string { return host.Local(b.dir.Run.Ports.Upstream) }
func (b *bench) caFile() string   { return b.dir.Join(host.Upstream, "demo-ca", "ca.pem") }

func (b *bench) startDouble(ca string) (*Target, error) {
	c := double.Config{Upstream: "https://" + b.upstream(), CA: ca, Routes: map[string]double.Route{
		"client-key": {Credential: "research-openai", Header: "Authorization", Key: "Bearer " + b.key},
	}}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(b.base, "double.json")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	pid, err := b.start(addr, filepath.Join(b.dir.Bin, "reeve"), "drill", "double", "--config", config, "--listen", addr)
	return &Target{Name: "one-process proxy", Addr: addr, Key: "client-key", PIDs: []int{pid}}, err
}

// nginxConf injects the key on the way to the upstream, with kept-alive and verified TLS connections.
const nginxConf = `daemon off; worker_processes 2; error_log %[1]s/nginx.log crit; pid %[1]s/nginx.pid;
events { worker_connections 16384; }
http {
  access_log off; keepalive_requests 1000000000; client_body_buffer_size 128k; client_max_body_size 64m;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream up { server %[2]s; keepalive 256; keepalive_requests 1000000000; }
  server {
    listen %[3]s;
    location / {
      proxy_pass https://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "Bearer %[4]s";
      proxy_ssl_verify on; proxy_ssl_trusted_certificate %[5]s; proxy_ssl_name localhost; proxy_ssl_session_reuse on;
      proxy_buffering off; proxy_read_timeout 1h;
    }
  }
}
`

func (b *bench) startNginx(path string) (*Target, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(b.base, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, b.base, b.upstream(), addr, b.key, b.caFile()), 0o600); err != nil {
		return nil, err
	}
	pid, err := b.start(addr, path, "-p", b.base, "-c", conf)
	if err != nil {
		return nil, err
	}
	return &Target{Name: "nginx", Addr: addr, Key: "unused", PIDs: append(children(pid), pid)}, nil
}

// children are the processes whose parent is pid.
func children(pid int) []int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// start starts a process and waits until addr, a port or a socket, takes connections.
func (b *bench) start(addr, path string, args ...string) (int, error) {
	name := filepath.Base(path)
	log, err := os.Create(filepath.Join(b.base, name+".log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	b.others = append(b.others, cmd)
	for range 250 {
		if c, err := net.Dial(network(addr), addr); err == nil {
			c.Close()
			return cmd.Process.Pid, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	said, _ := os.ReadFile(log.Name())
	return 0, fmt.Errorf("%s does not listen on %s; it says: %s", name, addr, said[max(0, len(said)-1000):])
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
