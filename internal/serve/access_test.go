package serve

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAccess(t *testing.T) {
	var out bytes.Buffer
	h := Access(slog.New(slog.NewJSONHandler(&out, nil)), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "short and stout")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/pot?secret=query", strings.NewReader("secret body")))
	var line struct {
		Msg       string
		RequestID string `json:"request_id"`
		Method    string
		Path      string
		Status    int
		Bytes     int64
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line.Msg != "access" || line.Method != "POST" || line.Path != "/pot" || line.Status != 418 || line.Bytes != 15 || line.RequestID != w.Header().Get("X-Request-Id") || line.RequestID == "" {
		t.Errorf("%s", out.String())
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("query or body is logged: %s", out.String())
	}
}
