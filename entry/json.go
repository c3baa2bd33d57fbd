package entry

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// MaxLen is the largest encoded entry in bytes: C2SP entry bundles have 16-bit lengths.
const MaxLen = 65535

// maxInt is the largest integer that a JSON number may hold here: IEEE 754 doubles are exact below 2^53 (RFC 8785, section 3.2.2.3).
const maxInt = 1<<53 - 1

// AppendJSON appends the entry's RFC 8785 encoding. It allocates only to grow dst. Bytes that are not UTF-8 are written as U+FFFD.
func (e *Entry) AppendJSON(dst []byte) []byte {
	w := writer{dst: append(dst, '{')}
	w.list(`"actor":`, e.Actor)
	w.int(`"bytes":`, e.Bytes, e.Bytes != 0)
	w.str(`"commit":`, e.Commit)
	w.int(`"count":`, e.Count, e.Count != 0)
	w.str(`"cred_fp":`, e.CredFP)
	w.str(`"credential":`, e.Credential)
	w.str(`"decision":`, e.Decision)
	w.str(`"dest":`, e.Dest)
	w.str(`"estate":`, e.Estate)
	w.int(`"feed_age_ms":`, e.FeedAgeMS, e.FeedAgeMS != 0 || e.Type == Intent || e.Type == Deny)
	w.str(`"gateway":`, e.Gateway)
	w.str(`"intent_log":`, e.IntentLog)
	w.int(`"intent_seq":`, e.IntentSeq, e.HasIntent)
	w.str(`"lease":`, e.Lease)
	w.str(`"level":`, e.Level)
	w.key(`"log":`)
	w.quote(e.Log)
	w.str(`"method":`, e.Method)
	w.str(`"path_hash":`, e.PathHash)
	w.list(`"policies":`, e.Policies)
	w.str(`"prev_log":`, e.PrevLog)
	w.str(`"prev_root":`, e.PrevRoot)
	w.int(`"prev_size":`, e.PrevSize, e.PrevLog != "")
	w.str(`"proof":`, e.Proof)
	w.str(`"reason":`, e.Reason)
	w.str(`"req_digest":`, e.ReqDigest)
	w.int(`"seq":`, e.Seq, true)
	w.int(`"status":`, int64(e.Status), e.Status != 0)
	w.str(`"tenant":`, e.Tenant)
	w.int(`"tenant_seq":`, e.TenantSeq, e.Tenant != "")
	w.key(`"time_ns":`)
	w.dst = append(w.dst, '"')
	w.dst = strconv.AppendInt(w.dst, e.TimeNS, 10)
	w.dst = append(w.dst, '"')
	w.key(`"type":`)
	w.quote(string(e.Type))
	w.str(`"unit":`, e.Unit)
	w.str(`"usage":`, e.Usage)
	w.int(`"v":`, int64(e.V), true)
	w.str(`"workload":`, e.Workload)
	return append(w.dst, '}')
}

// writer appends members in the order in which AppendJSON names them, which is RFC 8785's.
type writer struct {
	dst  []byte
	more bool
}

func (w *writer) key(k string) {
	if w.more {
		w.dst = append(w.dst, ',')
	}
	w.more = true
	w.dst = append(w.dst, k...)
}

func (w *writer) int(k string, n int64, there bool) {
	if there {
		w.key(k)
		w.dst = strconv.AppendInt(w.dst, n, 10)
	}
}

func (w *writer) str(k, s string) {
	if s != "" {
		w.key(k)
		w.quote(s)
	}
}

func (w *writer) list(k string, l []string) {
	if len(l) == 0 {
		return
	}
	w.key(k)
	w.dst = append(w.dst, '[')
	for i, s := range l {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		w.quote(s)
	}
	w.dst = append(w.dst, ']')
}

// quote writes a string as RFC 8785, section 3.2.2.2, says.
func (w *writer) quote(s string) {
	const hex = "0123456789abcdef"
	w.dst = append(w.dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			w.dst = utf8.AppendRune(w.dst, r)
			i += n
			continue
		}
		i++
		switch {
		case c == '"' || c == '\\':
			w.dst = append(w.dst, '\\', c)
		case c >= ' ':
			w.dst = append(w.dst, c)
		case c == '\b':
			w.dst = append(w.dst, '\\', 'b')
		case c == '\t':
			w.dst = append(w.dst, '\\', 't')
		case c == '\n':
			w.dst = append(w.dst, '\\', 'n')
		case c == '\f':
			w.dst = append(w.dst, '\\', 'f')
		case c == '\r':
			w.dst = append(w.dst, '\\', 'r')
		default:
			w.dst = append(w.dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	w.dst = append(w.dst, '"')
}

// Parse reads one entry. It refuses every encoding but the one that AppendJSON writes, and what Validate refuses.
func Parse(b []byte) (*Entry, error) {
	if len(b) > MaxLen {
		return nil, fmt.Errorf("entry of %d bytes is longer than %d", len(b), MaxLen)
	}
	e := new(Entry)
	if err := (&reader{b: b}).entry(e); err != nil {
		return nil, err
	}
	// The reader takes members in any order and any escapes; only one order and one spelling encode to the same bytes.
	if !bytes.Equal(e.AppendJSON(make([]byte, 0, len(b))), b) {
		return nil, errors.New("entry is not in canonical form (RFC 8785)")
	}
	return e, e.Validate()
}

// reader reads the JSON that entries are made of: one flat object of integers, strings and lists of strings.
type reader struct {
	b []byte
	i int
}

func (r *reader) entry(e *Entry) error {
	if !r.next('{') {
		return r.wrong("object")
	}
	for {
		k, err := r.str()
		if err != nil {
			return err
		}
		if !r.next(':') {
			return r.wrong("colon")
		}
		if err := r.member(e, k); err != nil {
			return fmt.Errorf("member %q: %w", k, err)
		}
		if r.next(',') {
			continue
		}
		if r.next('}') && r.i == len(r.b) {
			return nil
		}
		return r.wrong("end of the object")
	}
}

func (r *reader) member(e *Entry, k string) (err error) {
	var n int64
	switch k {
	case "actor":
		e.Actor, err = r.list()
	case "bytes":
		e.Bytes, err = r.int()
	case "commit":
		e.Commit, err = r.str()
	case "count":
		e.Count, err = r.int()
	case "cred_fp":
		e.CredFP, err = r.str()
	case "credential":
		e.Credential, err = r.str()
	case "decision":
		e.Decision, err = r.str()
	case "dest":
		e.Dest, err = r.str()
	case "estate":
		e.Estate, err = r.str()
	case "feed_age_ms":
		e.FeedAgeMS, err = r.int()
	case "gateway":
		e.Gateway, err = r.str()
	case "intent_log":
		e.IntentLog, err = r.str()
	case "intent_seq":
		e.HasIntent = true
		e.IntentSeq, err = r.int()
	case "lease":
		e.Lease, err = r.str()
	case "level":
		e.Level, err = r.str()
	case "log":
		e.Log, err = r.str()
	case "method":
		e.Method, err = r.str()
	case "path_hash":
		e.PathHash, err = r.str()
	case "policies":
		e.Policies, err = r.list()
	case "prev_log":
		e.PrevLog, err = r.str()
	case "prev_root":
		e.PrevRoot, err = r.str()
	case "prev_size":
		e.PrevSize, err = r.int()
	case "proof":
		e.Proof, err = r.str()
	case "reason":
		e.Reason, err = r.str()
	case "req_digest":
		e.ReqDigest, err = r.str()
	case "seq":
		e.Seq, err = r.int()
	case "status":
		n, err = r.int()
		e.Status = int(n)
	case "tenant":
		e.Tenant, err = r.str()
	case "tenant_seq":
		e.TenantSeq, err = r.int()
	case "time_ns":
		var s string
		if s, err = r.str(); err == nil {
			e.TimeNS, err = strconv.ParseInt(s, 10, 64)
		}
	case "type":
		var s string
		s, err = r.str()
		e.Type = Type(s)
	case "unit":
		e.Unit, err = r.str()
	case "usage":
		e.Usage, err = r.str()
	case "v":
		n, err = r.int()
		e.V = int(n)
	case "workload":
		e.Workload, err = r.str()
	default:
		err = errors.New("unknown")
	}
	return err
}

func (r *reader) wrong(want string) error { return fmt.Errorf("byte %d: expected %s", r.i, want) }

func (r *reader) next(c byte) bool {
	if r.i < len(r.b) && r.b[r.i] == c {
		r.i++
		return true
	}
	return false
}

func (r *reader) int() (int64, error) {
	start := r.i
	for r.i < len(r.b) && (r.b[r.i] == '-' || r.b[r.i] >= '0' && r.b[r.i] <= '9') {
		r.i++
	}
	n, err := strconv.ParseInt(string(r.b[start:r.i]), 10, 64)
	if err != nil || n > maxInt || n < -maxInt {
		return 0, fmt.Errorf("byte %d: expected an integer below 2^53", start)
	}
	return n, nil
}

func (r *reader) list() ([]string, error) {
	if !r.next('[') {
		return nil, r.wrong("list")
	}
	var l []string
	for {
		s, err := r.str()
		if err != nil {
			return nil, err
		}
		l = append(l, s)
		if r.next(']') {
			return l, nil
		}
		if !r.next(',') {
			return nil, r.wrong("comma or end of the list")
		}
	}
}

func (r *reader) str() (string, error) {
	if !r.next('"') {
		return "", r.wrong("string")
	}
	start := r.i
	for r.i < len(r.b) && r.b[r.i] != '"' && r.b[r.i] != '\\' {
		r.i++
	}
	if r.next('"') {
		return string(r.b[start : r.i-1]), nil
	}
	s := append([]byte(nil), r.b[start:r.i]...)
	for r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		if c == '"' {
			return string(s), nil
		}
		if c != '\\' {
			s = append(s, c)
			continue
		}
		c, err := r.escape()
		if err != nil {
			return "", err
		}
		s = append(s, c)
	}
	return "", r.wrong("end of the string")
}

// escape reads what follows a backslash. Canonical strings escape only quote, backslash and control characters.
func (r *reader) escape() (byte, error) {
	if r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch c {
		case '"', '\\':
			return c, nil
		case 'b':
			return '\b', nil
		case 't':
			return '\t', nil
		case 'n':
			return '\n', nil
		case 'f':
			return '\f', nil
		case 'r':
			return '\r', nil
		case 'u':
			if len(r.b)-r.i >= 4 {
				n, err := strconv.ParseUint(string(r.b[r.i:r.i+4]), 16, 8)
				r.i += 4
				if err == nil && n < ' ' {
					return byte(n), nil
				}
			}
		}
	}
	return 0, r.wrong("canonical escape")
}
