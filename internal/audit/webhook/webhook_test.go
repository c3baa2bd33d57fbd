package webhook

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	for address, ok := range map[string]bool{"https://siem.example/x": true, "http://127.0.0.1:1/x": true, "http://[::1]/": true, "http://localhost/": true, "http://siem.example/": false,
		"http://localhost.siem.example/": false, "http://10.0.0.1/": false, "https://a:b@siem.example/": false, "ftp://siem.example/": false, "/etc/x": false, "https:///x": false, "https://:443/x": false, "siem.example": false} {
		if err := Check(address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestNoRedirect(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Error("went to", r.URL)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	resp, err := Client(time.Minute).Post(s.URL, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusTemporaryRedirect {
		t.Error(resp.Status)
	}
}
