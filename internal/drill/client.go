package drill

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/hop"
)

// client is a workload with its key and the credentials of its unit.
type client struct {
	base        string // URL of a gateway
	workload    string
	unit        string
	key         string
	credentials []string
}

// findClients reads what the demo wrote for its two workloads.
func (f *field) findClients() error {
	for _, unit := range []string{"research", "support"} {
		w := unit + "-agent"
		env, err := readEnv(f.envFile(w))
		if err != nil {
			return fmt.Errorf("reading the settings of %s: %w", w, err)
		}
		f.clients = append(f.clients, client{
			base: env["REEVE_URL"], workload: w, unit: unit, key: env["REEVE_KEY"], credentials: []string{unit + "-openai", unit + "-anthropic"},
		})
	}
	return checkReflections()
}

func (f *field) envFile(workload string) string { return demo.EnvFile(f.dir, workload) }

// headerOf, pathOf and bodyOf make the plainest call that a credential is for.
func pathOf(credential string) string {
	if strings.HasSuffix(credential, "anthropic") {
		return "/v1/messages"
	}
	return "/v1/chat/completions"
}

func headerOf(credential string) []hop.Field {
	h := []hop.Field{{Name: "Content-Type", Value: "application/json"}}
	if strings.HasSuffix(credential, "anthropic") {
		h = append(h, hop.Field{Name: "Anthropic-Version", Value: "2023-06-01"})
	}
	return h
}

func bodyOf(credential string) []byte {
	model := "demo-small"
	if strings.HasSuffix(credential, "anthropic") {
		model = "demo-claude"
	}
	return []byte(`{"model":"` + model + `","max_tokens":5,"messages":[{"role":"user","content":"drill"}]}`)
}

func streamed(body []byte) []byte {
	return append(body[:len(body)-1:len(body)-1], `,"stream":true}`...)
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// call makes one call through the client's gateway.
func (c client) call(ctx context.Context, credential string) error {
	body := bytes.Replace(bodyOf(credential), []byte(`"model":"`), []byte(`"model":"`+strings.TrimPrefix(credential, c.unit+"-")+"/"), 1)
	resp, err := c.do(ctx, credential, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, answer)
	}
	return nil
}

func (c client) do(ctx context.Context, credential string, body []byte, header map[string]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+pathOf(credential), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	for _, h := range headerOf(credential) {
		req.Header.Set(h.Name, h.Value)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	return http.DefaultClient.Do(req)
}

// callThrough makes n calls, of every client with every credential in turn, 16 at a time.
func (f *field) callThrough(ctx context.Context, clients []client, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for range 16 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				c := clients[i%len(clients)]
				if err := c.call(ctx, c.credentials[i/len(clients)%len(c.credentials)]); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the calls before the attack: %w", err)
	}
	return nil
}
