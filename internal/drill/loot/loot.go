package loot

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Hit is a secret found, or a door to one. It names the secret, never shows it.
type Hit struct {
	Place  string `json:"place"`  // memory, environment, files, descriptors, sockets
	Where  string `json:"where"`  // path, or process and address
	Secret string `json:"secret"` // credential name
	Form   string `json:"form"`
}

// Target is what the attacker goes through.
type Target struct {
	PIDs    []int    `json:"pids"`    // reeve's processes; 0 stands for the attacker's own
	Dirs    []string `json:"dirs"`    // walked for files
	Sockets []string `json:"sockets"` // Unix sockets to knock at
	// Doors are files from which a secret could be had, such as the key that opens the sealed ones: to read one is a hit.
	Doors   []string `json:"doors"`
	Needles []Needle `json:"needles"`
}

// Survey is what one search saw.
type Survey struct {
	Hits []Hit `json:"hits"`
	// Read counts per place what could be opened and searched, Denied what the system refused: a search that could read
	// nothing and one that was not run look different.
	Read   map[string]int `json:"read"`
	Denied map[string]int `json:"denied"`
	Bytes  int64          `json:"bytes"`

	maps *os.File
}

// Search goes through every place of the target. maps is /proc/self/maps, opened before the process was confined, or nil to open
// it now: a confined process may not open it, but code that runs in one finds its memory all the same.
func Search(t Target, maps *os.File) Survey {
	s := Survey{Read: map[string]int{}, Denied: map[string]int{}, maps: maps}
	for _, pid := range t.PIDs {
		s.memory(t, pid)
		s.environment(t, pid)
		s.descriptors(t, pid)
	}
	for _, dir := range t.Dirs {
		s.files(t, dir)
	}
	for _, path := range t.Doors {
		s.door(path)
	}
	for _, path := range t.Sockets {
		s.socket(t, path)
	}
	return s
}

// Count is how many hits there are at a place.
func (s *Survey) Count(place string) int {
	n := 0
	for _, h := range s.Hits {
		if h.Place == place {
			n++
		}
	}
	return n
}

func (s *Survey) door(path string) {
	f, err := os.Open(path)
	if err != nil {
		s.refused("files")
		return
	}
	f.Close()
	s.Hits = append(s.Hits, Hit{Place: "files", Where: path, Secret: "all", Form: "the key that opens the sealed secrets"})
}

// SocketsBelow lists the Unix sockets below a folder that the caller can see.
func SocketsBelow(dir string) []string {
	var all []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() == fs.ModeSocket {
			all = append(all, path)
		}
		return nil
	})
	return all
}

func (s *Survey) hit(place, where string, found []Needle) {
	for _, n := range found {
		s.Hits = append(s.Hits, Hit{place, where, n.Secret, n.Form})
	}
}

func (s *Survey) refused(place string) { s.Denied[place]++ }

func proc(pid int, name string) string {
	if pid == 0 {
		return "/proc/self/" + name
	}
	return fmt.Sprintf("/proc/%d/%s", pid, name)
}

// memory reads every mapping of a process.
func (s *Survey) memory(t Target, pid int) {
	var err error
	if pid == 0 {
		err = s.ownMemory(t)
	} else {
		err = s.othersMemory(t, pid)
	}
	if err != nil {
		s.refused("memory")
		return
	}
	s.Read["memory"]++
}

func (s *Survey) environment(t Target, pid int) {
	for _, name := range []string{"environ", "cmdline"} {
		b, err := os.ReadFile(proc(pid, name))
		if err != nil {
			s.refused("environment")
			continue
		}
		s.Read["environment"]++
		s.Bytes += int64(len(b))
		s.hit("environment", proc(pid, name), Find(t.Needles, b))
	}
}

// descriptors opens what a process holds open: a file that no path leads to any more is read through them.
func (s *Survey) descriptors(t Target, pid int) {
	entries, err := os.ReadDir(proc(pid, "fd"))
	if err != nil {
		s.refused("descriptors")
		return
	}
	for _, e := range entries {
		path := filepath.Join(proc(pid, "fd"), e.Name())
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		s.file(t, "descriptors", path)
	}
}

func (s *Survey) files(t Target, dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			s.refused("files")
			return nil // the next one
		}
		if d.Type().IsRegular() {
			s.file(t, "files", path)
		}
		return nil
	})
}

func (s *Survey) file(t Target, place, path string) {
	f, err := os.Open(path)
	if err != nil {
		s.refused(place)
		return
	}
	defer f.Close()
	s.Read[place]++
	s.stream(t, place, path, f)
}

// stream searches what r gives in pieces that overlap by the longest needle.
func (s *Survey) stream(t Target, place, where string, r io.Reader) {
	keep := max(Longest(t.Needles)-1, 0)
	buf := make([]byte, keep+1<<20)
	have := 0
	for {
		n, err := io.ReadFull(r, buf[have:])
		s.Bytes += int64(n)
		s.hit(place, where, Find(t.Needles, buf[:have+n]))
		if err != nil {
			return
		}
		have = copy(buf, buf[have+n-keep:have+n])
	}
}

// knocks are what an attacker would say to a socket that it does not know.
func knocks() []string {
	return []string{
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /v1/credentials HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /debug/pprof/heap HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"status\n", "dump\n",
	}
}

func (s *Survey) socket(t Target, path string) {
	for _, knock := range knocks() {
		c, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			s.refused("sockets")
			return
		}
		c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		io.WriteString(c, knock)
		answer, _ := io.ReadAll(io.LimitReader(c, 1<<20)) // an error is an answer too
		c.Close()
		s.Read["sockets"]++
		s.Bytes += int64(len(answer))
		s.hit("sockets", path+" "+strings.TrimSpace(strings.SplitN(knock, "\n", 2)[0]), Find(t.Needles, answer))
	}
}
