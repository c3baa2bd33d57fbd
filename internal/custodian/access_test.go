package custodian

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestAccessLine: each use and each denial of the ledger is a line that names the request, and nothing that can be erased.
func TestAccessLine(t *testing.T) {
	w := newWorld(t)
	used := w.chat()
	used.RequestID = "req-used"
	w.do(used)
	denied := w.chat()
	denied.RequestID, denied.Path = "req-denied", "/v1/files"
	w.do(denied)
	must(t, w.Journal.Flush())
	lines := map[string]map[string]any{}
	for _, line := range strings.Split(w.logs.String(), "\n") {
		var l map[string]any
		if json.Unmarshal([]byte(line), &l) == nil && l["msg"] == "use" {
			lines[l["request_id"].(string)] = l
			if strings.Contains(line, "/v1/") {
				t.Errorf("a path: %s", line)
			}
		}
	}
	for id, reason := range map[string]string{"req-used": "complete", "req-denied": "path_refused"} {
		l := lines[id]
		if l == nil || l["reason"] != reason || l["workload"] != "research-agent" || l["credential"] != "research-openai" || l["gateway"] != "g1" || l["seq"] == nil {
			t.Errorf("%s: %v", id, l)
		}
	}
}
