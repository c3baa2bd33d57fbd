package anthropic

import (
	"net/url"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/gateway/dialect"
)

func TestErrors(t *testing.T) {
	for status, kind := range map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error", 405: "invalid_request_error",
		413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error",
	} {
		f := &dialect.Fault{Status: status, Code: "x", Message: "a & b", RequestID: "req_1"}
		want := `{"type":"error","error":{"type":"` + kind + `","message":"a & b"},"request_id":"req_1"}`
		if got := string(Dialect{}.Error(f)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got := string(Dialect{}.Frame(f)); got != "event: error\ndata: "+want+"\n\n" {
			t.Errorf("frame %q", got)
		}
	}
}

func TestModels(t *testing.T) {
	list := []dialect.Model{{ID: "a"}, {ID: "b", Created: time.Unix(86400, 0)}, {ID: "c"}}
	const a, b, c = `{"type":"model","id":"a","display_name":"a","created_at":"1970-01-01T00:00:00Z"}`,
		`{"type":"model","id":"b","display_name":"b","created_at":"1970-01-02T00:00:00Z"}`,
		`{"type":"model","id":"c","display_name":"c","created_at":"1970-01-01T00:00:00Z"}`
	for query, want := range map[string]string{
		"":                     `{"data":[` + a + "," + b + "," + c + `],"has_more":false,"first_id":"a","last_id":"c"}`,
		"limit=2":              `{"data":[` + a + "," + b + `],"has_more":true,"first_id":"a","last_id":"b"}`,
		"limit=2&after_id=b":   `{"data":[` + c + `],"has_more":false,"first_id":"c","last_id":"c"}`,
		"limit=1&before_id=c":  `{"data":[` + b + `],"has_more":true,"first_id":"b","last_id":"b"}`,
		"after_id=c":           `{"data":[],"has_more":false,"first_id":null,"last_id":null}`,
		"limit=-1&after_id=zz": `{"data":[` + a + "," + b + "," + c + `],"has_more":false,"first_id":"a","last_id":"c"}`,
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(Dialect{}.Models(list, q)); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", query, got, want)
		}
	}
}
