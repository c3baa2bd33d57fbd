package double

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestInjectsTheKeyOfTheClient(t *testing.T) {
	upstream := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("Authorization")+r.Header.Get("X-Api-Key"))
	}))
	defer upstream.Close()
	path := filepath.Join(t.TempDir(), "double.json")
	b, _ := json.Marshal(Config{
		Upstream: upstream.URL,
		CA:       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw})),
		Routes:   map[string]Route{"one": {"c", "Authorization", "Bearer up-one"}, "two": {"c", "X-Api-Key", "up-two"}},
	})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.Handler()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"one": "Bearer up-one", "two": "up-two", "three": "unknown key\n"} {
		r := httptest.NewRequest("POST", "/v1/x", nil)
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Body.String() != want {
			t.Errorf("%s: %q, want %q", key, w.Body.String(), want)
		}
	}
}
