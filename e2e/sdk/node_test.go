package sdk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/need"
)

// said is what the demo upstream answers.
const said = "Hello from the demo upstream. You said: "

// nodeCases is what node/cases.mjs must print for each case.
var nodeCases = map[string]any{
	"openai chat":                       map[string]any{"text": said + "hi there", "usage": true, "receipt": true, "id": true},
	"openai chat with a path":           said + "hi there",
	"openai key in another header":      said + "hi there",
	"openai stream":                     map[string]any{"text": said + "one two three", "usage": true},
	"openai responses":                  map[string]any{"text": said + "four five", "same": true, "gone": 404.0},
	"openai responses stream":           map[string]any{"text": said + "six seven", "last": "response.completed"},
	"openai embeddings":                 true,
	"openai models":                     map[string]any{"ids": []any{"fast", "openai/demo-embed", "openai/demo-large", "openai/demo-small"}, "got": "openai/demo-small"},
	"openai wrong key":                  map[string]any{"status": 401.0, "code": "invalid_api_key", "id": true, "sent": 1.0, "waited": false},
	"openai policy":                     map[string]any{"status": 403.0, "code": "policy_denied", "id": true, "sent": 1.0, "waited": false},
	"openai unknown model":              map[string]any{"status": 404.0, "code": "model_not_found", "id": true, "sent": 1.0, "waited": false},
	"openai retry after":                map[string]any{"status": 429.0, "code": "rate_limit_exceeded", "id": true, "sent": 2.0, "waited": true},
	"openai a page instead of a stream": map[string]any{"status": 502.0, "code": "upstream_content_type", "id": true, "sent": 1.0, "waited": false},
	"openai abort":                      true,

	"anthropic messages":                   map[string]any{"text": said + "hi there", "usage": true, "receipt": true, "id": true},
	"anthropic with a path":                said + "hi there",
	"anthropic bearer":                     said + "hi there",
	"anthropic both headers":               said + "hi there",
	"anthropic beta":                       said + "hi there",
	"anthropic stream":                     map[string]any{"text": said + "one two three", "usage": true},
	"anthropic count tokens":               true,
	"anthropic models":                     map[string]any{"ids": []any{"anthropic/demo-claude"}, "got": "demo-claude"},
	"anthropic wrong key":                  map[string]any{"status": 401.0, "code": "authentication_error", "id": true, "sent": 1.0, "waited": false},
	"anthropic policy":                     map[string]any{"status": 403.0, "code": "permission_error", "id": true, "sent": 1.0, "waited": false},
	"anthropic unknown model":              map[string]any{"status": 404.0, "code": "not_found_error", "id": true, "sent": 1.0, "waited": false},
	"anthropic retry after":                map[string]any{"status": 429.0, "code": "rate_limit_error", "id": true, "sent": 2.0, "waited": true},
	"anthropic a page instead of a stream": map[string]any{"status": 502.0, "code": "api_error", "id": true, "sent": 1.0, "waited": false},
	"anthropic abort":                      true,

	"openai broken chat":                map[string]any{"failed": true, "few": true},
	"openai broken chat;how=clean":      map[string]any{"failed": true, "few": true},
	"openai broken chat;how=error":      map[string]any{"failed": true, "few": true},
	"openai broken response":            map[string]any{"failed": true, "few": true},
	"openai broken response;how=clean":  map[string]any{"failed": true, "few": true},
	"openai broken response;how=error":  map[string]any{"failed": true, "few": true},
	"anthropic broken stream":           map[string]any{"failed": true, "few": true},
	"anthropic broken stream;how=clean": map[string]any{"failed": true, "few": true},
	"anthropic broken stream;how=error": map[string]any{"failed": true, "few": true},
}

func TestNode(t *testing.T) {
	needNode(t)
	each(t, nodeSDKs)
}

func nodeSDKs(t *testing.T, s *stack) {
	cmd := exec.Command("node", "cases.mjs", s.url, s.key)
	cmd.Dir = "node"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, &stderr)
	}
	seen := map[string]bool{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var line struct {
			Case  string `json:"case"`
			Got   any    `json:"got"`
			Error string `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		seen[line.Case] = true
		t.Run(line.Case, func(t *testing.T) {
			want, known := nodeCases[line.Case]
			if got, expected := encode(t, line.Got), encode(t, want); !known || line.Error != "" || got != expected {
				t.Errorf("got  %s %s\nwant %s", got, line.Error, expected)
			}
		})
	}
	for name := range nodeCases {
		if !seen[name] {
			t.Errorf("%s did not run", name)
		}
	}
	eventually(t, "aborted calls are cancelled at the upstream", func() bool { return s.live() == 0 })
}

// needNode skips the test, or fails it, where Node or the packages are missing.
func needNode(t *testing.T) {
	t.Helper()
	need.Part(t, "node")
	if _, err := os.Stat("node/node_modules/openai"); err == nil {
		return
	}
	const why = "the Node packages are missing: run npm ci in e2e/sdk/node"
	if list := "," + os.Getenv("REEVE_REQUIRE") + ","; strings.Contains(list, ",node,") || list == ",all," {
		t.Fatal(why)
	}
	t.Skip(why)
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
