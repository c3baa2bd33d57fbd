package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
)

// The auditor's configuration is its user's. Where root reads it, a file that it names has to be that user's too, and nothing of what lies in its place is shown.
func TestAuditorNamesItsOwnFiles(t *testing.T) {
	need.Part(t, "root")
	d := &host.Dir{Path: t.TempDir()}
	d.State = d.Path
	if err := os.Mkdir(d.Join(host.Auditor), 0o700); err != nil {
		t.Fatal(err)
	}
	config := d.Config(host.Auditor)
	write := func(text string, uid int) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(config, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	text := "index:\n  connection: postgres://reeve@127.0.0.1/reeve\n  password_file: " + filepath.Join(d.Path, "identity.age") + "\n"
	for uid, owner := range map[int]int{0: 0, 64104: 64104} {
		write(text, uid)
		if p, err := indexPlace(d); err != nil || p.Server.Connection == "" || p.Server.Owner != owner {
			t.Errorf("user %d: %+v, %v", uid, p.Server, err)
		}
	}
	write("a key of another process: [\n", 0)
	if _, err := indexPlace(d); err == nil || strings.Contains(err.Error(), "a key of another") {
		t.Errorf("%v", err)
	}
}
