package loot

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// planted is assembled at run time, so that the binary's own text does not hold it.
func planted() []byte {
	return []byte(strings.Join([]string{"planted", "needle", "in", "a", "haystack?&"}, "-"))
}

func forms(found []Needle) map[string]bool {
	m := map[string]bool{}
	for _, n := range found {
		m[n.Form] = true
	}
	return m
}

func TestFindEveryForm(t *testing.T) {
	secret := planted()
	needles := append(Needles("s", secret), Escaped("s", secret)...)
	noise := make([]byte, 5000)
	rand.New(rand.NewSource(1)).Read(noise)
	if found := Find(needles, noise); len(found) != 0 {
		t.Fatalf("found %v in noise", found)
	}
	each := func(format string) string {
		var b strings.Builder
		for _, c := range secret {
			fmt.Fprintf(&b, format, c)
		}
		return b.String()
	}
	for form, text := range map[string]string{
		"json": each(`\u%04x`), "html": each("&#%d;"), "html hex": each("&#x%X;"),
		"raw":       string(secret),
		"hex":       hex.EncodeToString(secret),
		"url":       url.QueryEscape(string(secret)),
		"base64":    base64.StdEncoding.EncodeToString([]byte("a" + string(secret) + "tail")),
		"base64url": base64.URLEncoding.EncodeToString([]byte("ab?" + string(secret) + "~~")),
	} {
		hay := append(append(bytes.Clone(noise), text...), noise...)
		// A form whose text equals another's stands under the first one's name.
		if got := forms(Find(needles, hay)); !got[form] && !got[strings.TrimSuffix(form, "url")] {
			t.Errorf("%s: not found", form)
		}
	}
}

func TestFindAtBothEnds(t *testing.T) {
	needles := Needles("s", planted())
	if len(Find(needles, planted())) != 1 {
		t.Error("not found in exactly itself")
	}
	if len(Find(needles, planted()[:10])) != 0 {
		t.Error("found in a part")
	}
}

func TestSearchFilesSocketsAndOwnMemory(t *testing.T) {
	dir := t.TempDir()
	secret := planted()
	big := append(bytes.Repeat([]byte("x"), 1<<20-5), secret...) // across the border of two pieces
	if err := os.WriteFile(filepath.Join(dir, "f"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("/tmp", "loot")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sockets)
	path := filepath.Join(sockets, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write(secret)
			c.Close()
		}
	}()
	s := Search(Target{PIDs: []int{0}, Dirs: []string{dir}, Sockets: []string{path}, Needles: Needles("s", secret)}, nil)
	got := map[string]int{}
	for _, h := range s.Hits {
		got[h.Place]++
	}
	for _, place := range []string{"files", "sockets"} {
		if got[place] == 0 {
			t.Errorf("%s: no hit", place)
		}
	}
	if runtime.GOOS == "linux" && got["memory"] == 0 {
		t.Error("memory: no hit, though this process holds the secret")
	}
	runtime.KeepAlive(secret)
	if len(Search(Target{Dirs: []string{dir}, Needles: Needles("other", []byte("another-secret-entirely"))}, nil).Hits) != 0 {
		t.Error("a hit for a secret that is nowhere")
	}
}

// A search must not find what it looks for in its own bookkeeping.
func TestSearchDoesNotPlantItself(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory is read on Linux only")
	}
	if os.Getenv("LOOT_CHILD") != "" {
		var n Needle
		fmt.Sscanf(os.Getenv("LOOT_CHILD"), "%d %d %x", &n.Length, &n.Roll, &n.Sum)
		n.Secret = "s"
		if hits := Search(Target{PIDs: []int{0}, Needles: []Needle{n}}, nil).Hits; len(hits) > 0 {
			fmt.Println("FOUND", hits)
		}
		return
	}
	n := Needles("s", planted())[0]
	var sum []byte = n.Sum[:]
	cmd := exec.Command(os.Args[0], "-test.run", "DoesNotPlantItself")
	cmd.Env = []string{fmt.Sprintf("LOOT_CHILD=%d %d %x", n.Length, n.Roll, sum)}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "FOUND") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestOthersMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory is read on Linux only")
	}
	child := exec.Command("sleep", "20")
	child.Env = []string{"PLANTED=" + string(planted())}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	time.Sleep(50 * time.Millisecond) // until it has called execve
	s := Search(Target{PIDs: []int{child.Process.Pid}, Needles: Needles("s", planted())}, nil)
	got := map[string]int{}
	for _, h := range s.Hits {
		got[h.Place]++
	}
	if got["environment"] == 0 || got["memory"] == 0 {
		t.Errorf("hits %v, denied %v: want environment and memory", got, s.Denied)
	}
}
