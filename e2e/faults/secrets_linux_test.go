package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
)

// What the demo's upstream gives out says of itself until when it may be used: its body stands in it, in base64.
var (
	exchanged = regexp.MustCompile(`eyJhY2NvdW50Ijoi[A-Za-z0-9_-]{40,400}`)
	standing  = regexp.MustCompile(`demo-upstream-key-[a-z0-9]{16}`)
)

// loot is what was found of the upstream's secrets.
type loot struct {
	Account string `json:"account"`
	Until   int64  `json:"until"`
	where   string
}

// secrets are those of the upstream in b.
func secrets(b []byte, where string) (all []loot) {
	for _, at := range exchanged.FindAllIndex(b, -1) {
		m := b[at[0]:at[1]]
		text, err := base64.RawURLEncoding.DecodeString(string(m[:len(m)/4*4]))
		if err != nil {
			continue
		}
		l := loot{where: fmt.Sprintf("%s %q … %q", where, b[max(at[0]-120, 0):at[0]], b[at[1]:min(at[1]+150, len(b))])}
		if json.Unmarshal(text, &l) != nil { // cut off: what is left of it counts as the whole
			if _, err := fmt.Sscanf(string(text[max(bytes.Index(text, []byte(`"until":`)), 0):]), `"until":%d`, &l.Until); err != nil {
				continue
			}
		}
		all = append(all, l)
	}
	for range standing.FindAll(b, -1) {
		all = append(all, loot{Account: "a key that was handed over", where: where})
	}
	return all
}

// inMemory searches what a process can write to, as root.
func inMemory(t *testing.T, pid int) (all []loot, size int64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		const piece, overlap = 4 << 20, 4 << 10
		buf := make([]byte, piece+overlap)
		for at := from; at < to; at += piece {
			n, _ := mem.ReadAt(buf[:min(piece+overlap, to-at)], at)
			size += int64(min(n, piece))
			all = append(all, secrets(buf[:n], fmt.Sprintf("memory %x", at))...)
		}
	}
	return all, size
}

// inFiles searches every file below a folder.
func inFiles(t *testing.T, dir string) (all []loot, size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		size += int64(len(b))
		all = append(all, secrets(b, path)...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, size
}

// TestNoUpstreamSecretOutlivesItsTime: a demo estate whose credentials are federated has no secret of the upstream at rest, and none in the
// custodian's memory that is over; what it holds for long are its federation keys, and its status says so. An estate whose keys were handed
// over shows that the search finds what is there.
func TestNoUpstreamSecretOutlivesItsTime(t *testing.T) {
	need.Part(t, "root")
	if testing.Short() {
		t.Skip("waits until a token of a minute is over")
	}
	s := makeSite(t, nil, func(p *estate.Plan) {
		for _, cu := range p.Custody {
			for i := range cu.Credentials {
				cu.Credentials[i].From.Lifetime = statement.Duration(time.Minute)
			}
		}
	})
	s.mustUp()
	custodian := func() int { return s.clonePids()[host.Custodian] }
	call := func() {
		t.Helper()
		for _, key := range []string{s.key, s.supportKey()} {
			if a := s.call(key, "POST", "/v1/chat/completions", `{"model":"openai/demo-small","messages":[{"role":"user","content":"hi"}]}`); a.status != 200 {
				t.Fatal(a)
			}
		}
	}
	call()
	first, size := inMemory(t, custodian())
	if len(first) == 0 || size < 1<<20 {
		t.Fatalf("the search finds nothing in %d bytes of memory although tokens are in use", size)
	}
	over := int64(0)
	for _, l := range first {
		over = max(over, l.Until)
	}
	check := func(what string, found []loot) {
		t.Helper()
		for _, l := range found {
			if l.Until <= time.Now().Unix()-5 {
				t.Errorf("%s: a secret of %s that ended %d s ago, in %s", what, l.Account, time.Now().Unix()-l.Until, l.where)
			}
		}
	}
	for time.Now().Unix() < over+40 { // in use all the while: it is renewed ahead. What ended is wiped half a minute later
		call()
		time.Sleep(500 * time.Millisecond)
	}
	found, size := inMemory(t, custodian())
	if t.Logf("%d tokens in %d bytes of memory, the first ended %d s ago", len(found), size, time.Now().Unix()-over); len(found) == 0 {
		t.Error("the calls of now have a token too")
	}
	check("memory", found)
	files, size := inFiles(t, s.dir.Join(host.Custodian))
	if len(files) > 0 || size == 0 {
		t.Errorf("%d secrets of the upstream in the custodian's files, the first in %s", len(files), files[0].where)
	}

	status, err := s.admin.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Mints) != 2 || len(status.Credentials) != 4 {
		t.Errorf("mints %+v, %d credentials", status.Mints, len(status.Credentials))
	}
	for _, m := range status.Mints {
		if m.Where != "file" || time.Until(m.NotAfter) > statement.FederationKeyLife {
			t.Errorf("%+v", m)
		}
	}
	for _, c := range status.Credentials {
		if c.Source != "federation" || c.Version != 0 || c.Uses.Static != 0 || c.Uses.Day != 0 {
			t.Errorf("%+v", c)
		}
	}

	sealed := start(t)
	sealed.mustUse("hi")
	found, _ = inMemory(t, sealed.clonePids()[host.Custodian])
	if len(found) == 0 {
		t.Error("a key that was handed over is not found in the memory that holds it")
	}
}
