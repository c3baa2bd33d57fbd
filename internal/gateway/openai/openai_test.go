package openai

import (
	"testing"

	"github.com/reevehq/reeve/internal/gateway/dialect"
)

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		fault dialect.Fault
		want  string
	}{
		{dialect.Fault{Status: 401, Code: "unauthenticated", Message: "m"}, `{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`},
		{dialect.Fault{Status: 404, Code: "model_not_found", Param: "model", Message: "<m>"}, `{"error":{"message":"<m>","type":"invalid_request_error","param":"model","code":"model_not_found"}}`},
		{dialect.Fault{Status: 404, Code: "not_found", Message: "m"}, `{"error":{"message":"m","type":"invalid_request_error","param":null,"code":null}}`},
		{dialect.Fault{Status: 403, Code: "policy_denied", Message: "m"}, `{"error":{"message":"m","type":"permission_error","param":null,"code":"policy_denied"}}`},
		{dialect.Fault{Status: 429, Code: "ceiling", Message: "m"}, `{"error":{"message":"m","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}`},
		{dialect.Fault{Status: 503, Code: "draining", Message: "m"}, `{"error":{"message":"m","type":"server_error","param":null,"code":"draining"}}`},
	} {
		if got := string(Dialect{}.Error(&test.fault)); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		if got := string(Dialect{}.Frame(&test.fault)); got != "data: "+test.want+"\n\n" {
			t.Errorf("frame %q", got)
		}
	}
}

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		path, event, data string
		want              bool
	}{
		{"/v1/chat/completions", "", "[DONE]", true},
		{"/v1/chat/completions", "", `{"id":"x"}`, false},
		{"/v1/chat/completions", "", `{ "error" : {"message":"m"}}`, true},
		{"/v1/chat/completions", "", `{"error":null,"choices":[]}`, false},
		{"/v1/chat/completions", "", "", false},
		{"/v1/responses", "response.completed", "{", true},
		{"/v1/responses", "response.failed", "{", true},
		{"/v1/responses", "response.a_state_of_the_future", "{", true},
		{"/v1/responses", "response.in_progress", "{", false},
		{"/v1/responses", "response.output_text.done", "{", false},
		{"/v1/responses", "error", "{", true},
		{"/v1/responses", "", `{"type":"response.completed"`, true},
		{"/v1/responses", "", `{"type":"response.created"`, false},
		{"/v1/responses", "keepalive", "{}", false},
	} {
		r, _ := Dialect{}.Route("POST", test.path)
		if got := r.Ends([]byte(test.event), []byte(test.data)); got != test.want {
			t.Errorf("%s %q %q: %v, want %v", test.path, test.event, test.data, got, test.want)
		}
	}
}
