package gateway

import (
	"net/http"
	"strings"

	"github.com/reevehq/reeve/internal/gateway/dialect"
)

// keyHeaders are where clients put their key: OpenAI, Anthropic, Gemini and Azure SDKs. Canonical names.
var keyHeaders = [...]string{"Authorization", "X-Api-Key", "X-Goog-Api-Key", "Api-Key"}

// key is the workload's key, wherever the client put it. The same key in several places is one key; two that differ are
// refused, because only one of them can have been meant.
func key(h http.Header) (string, *dialect.Fault) {
	found, at := "", ""
	for _, name := range keyHeaders {
		for _, v := range h[name] {
			if name == "Authorization" {
				scheme, token, ok := strings.Cut(v, " ")
				if !ok || !strings.EqualFold(scheme, "Bearer") {
					continue
				}
				v = strings.TrimLeft(token, " ")
			}
			switch {
			case v == "" || v == found:
			case found == "":
				found, at = v, name
			default:
				return "", &dialect.Fault{Status: http.StatusUnauthorized, Code: "two_keys", Final: true,
					Message: "Two different keys were sent, in " + at + " and in " + name + ". Send the workload's key once."}
			}
		}
	}
	if found == "" {
		return "", &dialect.Fault{Status: http.StatusUnauthorized, Code: "unauthenticated", Final: true,
			Message: "No workload key was sent. Put it into Authorization (as Bearer), x-api-key, api-key or x-goog-api-key."}
	}
	return found, nil
}
