package host

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portHolder names who listens on a TCP port, from /proc/net/tcp and /proc/PID/fd (proc(5)).
func portHolder(port int) string {
	inode, uid, ok := listener(port)
	if !ok {
		return "another process"
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "another process"
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		comm, err := os.ReadFile(dir + "/comm")
		if err != nil {
			continue
		}
		return fmt.Sprintf("pid %s (%s)", filepath.Base(dir), strings.TrimSpace(string(comm)))
	}
	return fmt.Sprintf("a process of uid %s, whose pid only that user and root can see", uid)
}

// listener finds the listening socket's inode and its owner.
func listener(port int) (inode, uid string, ok bool) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			field := strings.Fields(lines.Text())
			if len(field) < 10 || field[3] != "0A" { // TCP_LISTEN
				continue
			}
			_, hex, _ := strings.Cut(field[1], ":")
			if n, err := strconv.ParseInt(hex, 16, 32); err == nil && int(n) == port {
				return field[9], field[7], true
			}
		}
	}
	return "", "", false
}
