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

// member is one member of the JSON object. Exactly one of the pointers is set.
type member struct {
	key    string
	str    *string
	num    *int64
	small  *int
	time   *int64 // a decimal string in JSON
	list   *[]string
	always bool // written even when it is zero or empty
}

// members lists every member of an entry in the order of RFC 8785, section 3.2.3.
func (e *Entry) members() [38]member {
	return [...]member{
		{key: "actor", list: &e.Actor},
		{key: "bytes", num: &e.Bytes},
		{key: "commit", str: &e.Commit},
		{key: "count", num: &e.Count},
		{key: "cred_fp", str: &e.CredFP},
		{key: "credential", str: &e.Credential},
		{key: "decision", str: &e.Decision},
		{key: "dest", str: &e.Dest},
		{key: "estate", str: &e.Estate},
		{key: "expires", num: &e.Expires},
		{key: "feed_age_ms", num: &e.FeedAgeMS, always: e.Type == Intent || e.Type == Deny},
		{key: "gateway", str: &e.Gateway},
		{key: "intent_log", str: &e.IntentLog},
		{key: "intent_seq", num: &e.IntentSeq, always: e.HasIntent},
		{key: "lease", str: &e.Lease},
		{key: "level", str: &e.Level},
		{key: "log", str: &e.Log, always: true},
		{key: "method", str: &e.Method},
		{key: "path_hash", str: &e.PathHash},
		{key: "policies", list: &e.Policies},
		{key: "prev_log", str: &e.PrevLog},
		{key: "prev_root", str: &e.PrevRoot},
		{key: "prev_size", num: &e.PrevSize, always: e.PrevLog != ""},
		{key: "proof", str: &e.Proof},
		{key: "reason", str: &e.Reason},
		{key: "record", str: &e.Record},
		{key: "req_digest", str: &e.ReqDigest},
		{key: "seq", num: &e.Seq, always: true},
		{key: "state", str: &e.State},
		{key: "status", small: &e.Status},
		{key: "tenant", str: &e.Tenant},
		{key: "tenant_seq", num: &e.TenantSeq, always: e.Tenant != ""},
		{key: "time_ns", time: &e.TimeNS, always: true},
		{key: "type", str: (*string)(&e.Type), always: true},
		{key: "unit", str: &e.Unit},
		{key: "usage", str: &e.Usage},
		{key: "v", small: &e.V, always: true},
		{key: "workload", str: &e.Workload},
	}
}

// there reports whether the member is written.
func (m *member) there() bool {
	switch {
	case m.always:
		return true
	case m.str != nil:
		return *m.str != ""
	case m.num != nil:
		return *m.num != 0
	case m.small != nil:
		return *m.small != 0
	}
	return m.list != nil && len(*m.list) > 0
}

// AppendJSON appends the entry's RFC 8785 encoding. It allocates only to grow dst. Bytes that are not UTF-8 are written as U+FFFD.
func (e *Entry) AppendJSON(dst []byte) []byte {
	members := e.members()
	start := len(dst)
	dst = append(dst, '{')
	for i := range members {
		m := &members[i]
		if !m.there() {
			continue
		}
		if len(dst) > start+1 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), m.key...), '"', ':')
		switch {
		case m.str != nil:
			dst = appendString(dst, *m.str)
		case m.num != nil:
			dst = strconv.AppendInt(dst, *m.num, 10)
		case m.small != nil:
			dst = strconv.AppendInt(dst, int64(*m.small), 10)
		case m.time != nil:
			dst = append(strconv.AppendInt(append(dst, '"'), *m.time, 10), '"')
		default:
			dst = appendList(dst, *m.list)
		}
	}
	return append(dst, '}')
}

func appendList(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

// appendString writes a string as RFC 8785, section 3.2.2.2, says.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	plain := 0 // start of a run that needs no change
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		dst = append(dst, s[plain:i]...)
		n := 1
		switch {
		case c >= utf8.RuneSelf:
			var r rune
			r, n = utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
		case c >= ' ':
			dst = append(dst, '\\', c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i += n
		plain = i
	}
	return append(append(dst, s[plain:]...), '"')
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
	// The reader overlooks some spellings (a number's leading zeros, an empty member); only one encodes to the same bytes.
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
	members := e.members()
	for i := 0; ; i++ {
		k, err := r.str()
		if err != nil {
			return err
		}
		for i < len(members) && members[i].key != k {
			i++
		}
		if i == len(members) {
			return fmt.Errorf("member %q is unknown, doubled or out of order", k)
		}
		if !r.next(':') {
			return r.wrong("colon")
		}
		if err := r.value(&members[i]); err != nil {
			return fmt.Errorf("member %q: %w", k, err)
		}
		e.HasIntent = e.HasIntent || k == "intent_seq"
		if r.next(',') {
			continue
		}
		if r.next('}') && r.i == len(r.b) {
			return nil
		}
		return r.wrong("end of the object")
	}
}

func (r *reader) value(m *member) (err error) {
	var n int64
	switch {
	case m.str != nil:
		*m.str, err = r.str()
	case m.num != nil:
		*m.num, err = r.int()
	case m.small != nil:
		n, err = r.int()
		*m.small = int(n)
	case m.time != nil:
		var s string
		if s, err = r.str(); err == nil {
			*m.time, err = strconv.ParseInt(s, 10, 64)
		}
	default:
		*m.list, err = r.list()
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
