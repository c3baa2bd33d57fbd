package export

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"time"
)

const maxLine = 8 << 20 // bytes of one line of an audit file

// OpenBao reads the audit file of OpenBao or Vault, a JSON object a line. What counts is an answered read: its key is the namespace and the path;
// tokens and accessors are the HMACs that the server writes. (openbao.org/docs/audit; developer.hashicorp.com/vault/docs/audit/schema)
func OpenBao(r io.Reader) (*Export, error) {
	x := &Export{Provider: "openbao"}
	s := bufio.NewScanner(io.LimitReader(r, MaxFile+1))
	s.Buffer(make([]byte, 64<<10), maxLine)
	total, n := 0, 0
	for s.Scan() {
		n++
		if total += len(s.Bytes()) + 1; total > MaxFile {
			return nil, no("it has more than %d MiB; export less at a time", MaxFile>>20)
		}
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		var l struct {
			Time *time.Time `json:"time"`
			Type string     `json:"type"`
			Auth struct {
				Name     string `json:"display_name"`
				Accessor string `json:"accessor"`
			} `json:"auth"`
			Request *struct {
				Operation string `json:"operation"`
				Path      string `json:"path"`
				Address   string `json:"remote_address"`
				Namespace struct {
					Path string `json:"path"`
				} `json:"namespace"`
			} `json:"request"`
			Error string `json:"error"`
		}
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, no("line %d: %v", n, err)
		}
		if l.Time == nil || l.Request == nil || l.Type != "request" && l.Type != "response" {
			return nil, no("line %d has no time, request and type", n)
		}
		at := l.Time.UTC()
		x.cover(at, at)
		if l.Type != "response" || l.Error != "" || l.Request.Operation != "read" {
			continue
		}
		who := strings.TrimSpace(l.Auth.Name + " " + l.Request.Address)
		if err := x.add(Count{Keys: []string{Path(l.Request.Namespace.Path, l.Request.Path)}, Kind: Read, From: at, To: at, Requests: 1, Who: who}); err != nil {
			return nil, err
		}
	}
	if err := s.Err(); err != nil {
		return nil, no("line %d: %v", n+1, err)
	}
	if n == 0 {
		return nil, no("it is empty")
	}
	return x, nil
}

// Path is the key of what is read from OpenBao.
func Path(namespace, path string) string {
	if namespace = strings.Trim(namespace, "/"); namespace != "" {
		namespace += "/"
	}
	return namespace + strings.Trim(path, "/")
}
