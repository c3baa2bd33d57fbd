package auditor

import (
	"net/http"
	"strconv"
	"strings"
)

// file serves the auditor's own copy of a process's log in the C2SP tlog-tiles layout, successors below their number, to whoever
// cannot read the folder in which the process publishes it. The reader verifies it: what is served is signed by the log.
func (a *Auditor) file(w http.ResponseWriter, r *http.Request) {
	name, n := r.PathValue("file"), 0
	if first, rest, found := strings.Cut(name, "/"); found {
		if i, err := strconv.Atoi(first); err == nil {
			name, n = rest, i
		}
	}
	t := a.volume(r.PathValue("process"), n)
	if t == nil || name != signedFile && name != cosignedFile && !strings.HasPrefix(name, "tile/") {
		http.NotFound(w, r)
		return
	}
	b, err := t.own.read(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(b)
}

// volume is the nth log of a process as far as it is followed, or nil.
func (a *Auditor) volume(process string, n int) *tail {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.trust.Logs {
		if t := a.tails[origin(l.Origin, n)]; l.Process == process && t != nil {
			return t
		}
	}
	return nil
}
