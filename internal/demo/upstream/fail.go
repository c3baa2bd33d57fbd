package upstream

import (
	"net/http"
	"strings"
)

// openAIError is OpenAI's error object. Param and Code are null where they do not apply.
type openAIError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

type openAIFailure struct {
	Error openAIError `json:"error"`
}

// anthropicFailure is Anthropic's error object.
type anthropicFailure struct {
	Type      string         `json:"type"`
	Error     anthropicError `json:"error"`
	RequestID string         `json:"request_id,omitempty"`
}

type anthropicError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// fail answers an error of the status in the provider's own form.
func (c *call) fail(status int, message string) {
	if c.dialect == anthropic {
		c.json(status, &anthropicFailure{"error", anthropicError{anthropicType(status), message}, c.id})
		return
	}
	typ, code := openAIType(status)
	c.json(status, &openAIFailure{openAIError{Message: message, Type: typ, Code: code}})
}

// failParam is fail for one parameter of the request.
func (c *call) failParam(param, code, message string) {
	if c.dialect == anthropic {
		c.fail(http.StatusBadRequest, message)
		return
	}
	e := openAIError{Message: message, Type: "invalid_request_error", Param: &param}
	if code != "" {
		e.Code = &code
	}
	c.json(http.StatusBadRequest, &openAIFailure{e})
}

func anthropicType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case 529:
		return "overloaded_error"
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

func openAIType(status int) (typ string, code *string) {
	named := func(s string) *string { return &s }
	switch {
	case status == http.StatusUnauthorized:
		return "invalid_request_error", named("invalid_api_key")
	case status == http.StatusTooManyRequests:
		return "requests", named("rate_limit_exceeded")
	case status >= 500:
		return "server_error", nil
	}
	return "invalid_request_error", nil
}

// unauthenticated refuses a missing or wrong key with the provider's words.
func (c *call) unauthenticated() {
	switch {
	case c.dialect == anthropic && c.key == "":
		c.fail(http.StatusUnauthorized, "x-api-key header is required")
	case c.dialect == anthropic:
		c.fail(http.StatusUnauthorized, "invalid x-api-key")
	case c.key == "":
		c.json(http.StatusUnauthorized, &openAIFailure{openAIError{Type: "invalid_request_error", Message: "You didn't provide " +
			"an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer " +
			"YOUR_KEY), or as the password field (with blank username) if you're accessing the API from your browser and are " +
			"prompted for a username and password. You can obtain an API key from https://platform.openai.com/account/api-keys."}})
	default:
		c.fail(http.StatusUnauthorized, "Incorrect API key provided: "+mask(c.key)+
			". You can find your API key at https://platform.openai.com/account/api-keys.")
	}
}

// mask shows the last four characters, as OpenAI does.
func mask(key string) string {
	if len(key) <= 8 {
		return strings.Repeat("*", len(key))
	}
	return strings.Repeat("*", len(key)-4) + key[len(key)-4:]
}

func (c *call) notFound() {
	if c.dialect == anthropic {
		c.fail(http.StatusNotFound, "Not Found")
		return
	}
	c.fail(http.StatusNotFound, "Invalid URL ("+c.r.Method+" "+c.r.URL.Path+")")
}

// status answers the status asked for.
func (c *call) status() {
	code := c.control.code
	if v := c.control.retryAfter; v != "" {
		c.w.Header().Set("Retry-After", v)
	}
	switch {
	case code < 400:
		location := c.control.location
		if location == "" {
			location = "https://127.0.0.1:1/elsewhere"
		}
		c.w.Header().Set("Location", location)
		c.w.WriteHeader(code)
	case code == http.StatusNotFound && c.dialect == anthropic:
		c.fail(code, "model: "+c.model())
	case code == http.StatusNotFound:
		name := "model_not_found"
		c.json(code, &openAIFailure{openAIError{Type: "invalid_request_error", Code: &name,
			Message: "The model `" + c.model() + "` does not exist or you do not have access to it."}})
	default:
		c.fail(code, statusMessage(c.dialect, code))
	}
}

func statusMessage(d dialect, code int) string {
	switch {
	case code == http.StatusTooManyRequests && d == anthropic:
		return "This request would exceed your organization's rate limit."
	case code == http.StatusTooManyRequests:
		return "Rate limit reached for requests. Limit: 3 / min. Please try again in 20s."
	case code == 529:
		return "Overloaded"
	case code >= 500 && d == anthropic:
		return "Internal server error"
	case code >= 500:
		return "The server had an error while processing your request. Sorry about that!"
	}
	return http.StatusText(code)
}

// streamError is the event that a provider sends when it fails in the middle of a stream.
func (c *call) streamError(n int) (event string, v any) {
	if c.dialect == anthropic {
		return "error", &anthropicFailure{Type: "error", Error: anthropicError{"overloaded_error", "Overloaded"}}
	}
	message := "The server had an error while processing your request. Sorry about that!"
	if strings.HasPrefix(c.r.URL.Path, "/v1/responses") {
		return "error", &responseError{Type: "error", SequenceNumber: n, Code: "server_error", Message: message}
	}
	return "", &openAIFailure{openAIError{Message: message, Type: "server_error"}}
}
