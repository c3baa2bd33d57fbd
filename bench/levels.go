package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/demo"
	estates "github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/sidecar"
)

// prover makes what a client of level W1 or W2 sends beside its body. Safe for concurrent use.
type prover struct {
	url    string // that requests are signed for
	token  string
	signer *pop.Signer            // nil for a token alone
	nonce  atomic.Pointer[string] // the custodian's newest
}

// prove returns header lines. Only with a signer are they another request's each time.
func (p *prover) prove(body []byte) (string, error) {
	header := http.Header{"Authorization": {"Bearer " + p.token}, "Content-Type": {"application/json"}}
	if p.signer != nil {
		terms := pop.Terms{Credential: "research-openai", Audience: demo.Processes.Custodian, Nonce: "none"}
		if n := p.nonce.Load(); n != nil {
			terms.Nonce = *n
		}
		if err := p.signer.Sign(&pop.Request{Method: http.MethodPost, URL: p.url, Header: header.Values, Body: body}, terms, nil, time.Now(), header.Set); err != nil {
			return "", err
		}
	}
	var lines strings.Builder
	for name := range header {
		fmt.Fprintf(&lines, "%s: %s\r\n", name, header.Get(name))
	}
	return lines.String(), nil
}

// learn keeps the nonce of an answer.
func (p *prover) learn(h http.Header) {
	if nonce := h.Get(pop.FieldNonce); nonce != "" {
		p.nonce.Store(&nonce)
	}
}

// agentToken is research-agent's own token, bound to its key or to none.
func agentToken(key crypto.Signer, bound bool) (string, error) {
	id, err := pop.Thumbprint(key.Public())
	if err != nil {
		return "", err
	}
	now := time.Now().Unix()
	claims := map[string]any{"iss": estates.AgentIssuer(demo.ID), "sub": estates.AgentIssuer(demo.ID), "aud": estates.AgentAudience(demo.ID), "iat": now, "exp": now + 600, "jti": rand.Text()}
	if bound {
		claims["cnf"] = map[string]string{"jkt": id}
	}
	text, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", id))
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(text)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// proving are the ways in which a workload proves a request, from the cheapest on.
func (b *bench) proving() ([]*Target, error) {
	w0, err := b.reeve("W0, a key")
	if err != nil {
		return nil, err
	}
	key, err := sidecar.ReadKey(demo.AgentKey(b.dir))
	if err != nil {
		return nil, err
	}
	all := []*Target{w0}
	for _, bound := range []bool{false, true} {
		p := &prover{url: "http://" + w0.Addr + path}
		if p.token, err = agentToken(key, bound); err != nil {
			return nil, err
		}
		t := &Target{Name: "W1, a token", Addr: w0.Addr, PIDs: w0.PIDs, Prover: p}
		if bound {
			t.Name = "W2, signed by the client"
			if p.signer, err = pop.NewSigner(key); err != nil {
				return nil, err
			}
			if err := greet(t); err != nil {
				return nil, err
			}
		}
		all = append(all, t)
	}
	socket, config := filepath.Join(b.base, "sidecar.sock"), filepath.Join(b.base, "sidecar.yaml")
	text, err := os.ReadFile(filepath.Join(b.dir.Path, "sidecar.yaml"))
	if err != nil {
		return nil, err
	}
	agent := demo.AgentKey(b.dir)
	text = append([]byte(strings.Replace(string(text), "key: "+filepath.Base(agent), "key: "+agent, 1)), "listen: unix:"+socket+"\n"...)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	pid, err := b.start(socket, filepath.Join(b.dir.Bin, "reeve"), "sidecar", "--config", config)
	if err != nil {
		return nil, err
	}
	return append(all, &Target{Name: "W2, signed by the sidecar", Addr: socket, PIDs: append([]int{b.pids[host.Gateway], b.pids[host.Custodian]}, pid)}), nil
}

// greet makes a request that is refused, with the nonce that those after it are signed with.
func greet(t *Target) error {
	c, err := t.dial(calls()[0])
	if err != nil {
		return err
	}
	defer c.conn.Close()
	if _, _, err := c.do(); err != nil && t.Prover.nonce.Load() == nil {
		return fmt.Errorf("%s: no nonce came: %w", t.Name, err)
	}
	return nil
}

// levels is what proofs cost: the same short request, proved in each way.
func (b *bench) levels(ctx context.Context, _ []*Target) error {
	targets, err := b.proving()
	if err != nil {
		return err
	}
	call := calls()[0]
	progress("proofs, %s", call.Name)
	sums, err := b.inTurns(ctx, targets, func(t *Target) *Result { return saturate(t, call, b.conns, b.each) })
	if err != nil {
		return err
	}
	b.printf("### What a proof costs, %s, %d in flight\n\nCPU in µs a request. The client that signs is the measuring process, whose CPU is not counted and takes the others' time.\n\n", call.Name, b.conns)
	b.printf("| | requests/s | failed | gateway | custodian | both | sidecar |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for i, t := range targets {
		_, each := sums[i].CPUEach()
		beside := "–"
		if len(each) > 2 {
			beside = fmt.Sprintf("%.0f", us(each[2]))
		}
		b.printf("| %s | %.0f | %d | %.0f | %.0f | %.0f | %s |\n", t.Name, sums[i].PerSecond(), sums[i].Failed, us(each[0]), us(each[1]), us(each[0]+each[1]), beside)
	}
	b.printf("\n")
	b.complain(targets, sums)
	return nil
}
