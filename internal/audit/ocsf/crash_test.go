package ocsf

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/cursor"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/audit/sample"
	"github.com/reevehq/reeve/verify"
)

// exporting is the folder that this program exports from when it is a child.
const exporting = "REEVE_TEST_EXPORT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(exporting); dir != "" {
		if err := exportFrom(dir, os.Getenv("REEVE_TEST_TO")); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

func exportFrom(dir, to string) error {
	trust, err := readTrust(dir)
	if err != nil {
		return err
	}
	w, err := NewWebhook(to, nil, nil)
	if err != nil {
		return err
	}
	x := &Exporter{State: filepath.Join(dir, "auditor"), Trust: trust, Sink: w}
	c := &cursor.Follower{State: x.State, Trust: trust, File: filepath.Join(dir, "cursor")}
	if err := c.Open(); err != nil {
		return err
	}
	_, err = c.Deliver(context.Background(), x.Deliver)
	return err
}

func readTrust(dir string) (*verify.Trust, error) {
	text, err := os.ReadFile(filepath.Join(dir, "trust.json"))
	if err != nil {
		return nil, err
	}
	return verify.ParseTrust(text)
}

// The exporter is killed when the webhook has a batch and before the cursor has moved, again and again: what it sends twice has the same id, and in
// the end everything was sent, in order.
func TestKilledBetweenSendingAndCursor(t *testing.T) {
	dir := t.TempDir()
	if _, err := sample.Write(dir, sample.Options{Seed: 3, End: time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC), Credentials: 2400, Uses: 300}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var child *exec.Cmd
	next := map[string]int64{} // of each log
	batches, kills, twice := 0, 0, 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		batches++
		lines := bufio.NewScanner(r.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var v struct {
				Metadata struct {
					UID      string `json:"uid"`
					Sequence int64  `json:"sequence"`
				} `json:"metadata"`
			}
			if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
				t.Error(err)
			}
			log := v.Metadata.UID[:16]
			if v.Metadata.Sequence > next[log] {
				t.Errorf("%s came, and %d was next", v.Metadata.UID, next[log])
			}
			if v.Metadata.Sequence < next[log] {
				twice++
			}
			next[log] = max(next[log], v.Metadata.Sequence+1)
		}
		if batches%2 == 1 && kills < 4 {
			kills++
			if err := child.Process.Kill(); err != nil {
				t.Error(err)
			}
			panic(http.ErrAbortHandler) // no answer
		}
	}))
	defer s.Close()
	for done := false; !done; {
		mu.Lock()
		child = exec.Command(os.Args[0])
		child.Env = append(os.Environ(), exporting+"="+dir, "REEVE_TEST_TO="+s.URL)
		var out bytes.Buffer
		child.Stderr = &out
		err := child.Start()
		mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		err = child.Wait()
		var killed *exec.ExitError
		if done = err == nil; !done && (!errors.As(err, &killed) || killed.ExitCode() != -1) {
			t.Fatalf("%v: %s", err, out.Bytes())
		}
	}
	trust, err := readTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := logs.Open(filepath.Join(dir, "auditor"), trust)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if next[l.ID] != l.Checkpoint.N {
			t.Errorf("%d of %d entries of %s were sent", next[l.ID], l.Checkpoint.N, l.ID)
		}
	}
	if kills != 4 || twice == 0 {
		t.Errorf("%d kills, %d events twice", kills, twice)
	}
	t.Logf("%d batches, %d kills, %d events twice", batches, kills, twice)
}
