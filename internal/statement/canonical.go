package statement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Canonical returns v as RFC 8785 JSON. v must hold objects with ASCII member names, arrays, strings, booleans and integers
// below 2^53 only.
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	return appendCanonical(nil, tree)
}

func appendCanonical(b []byte, v any) (_ []byte, err error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return fmt.Append(b, v), nil
	case string:
		return appendString(b, v), nil
	case json.Number:
		n, err := v.Int64()
		if err != nil || n <= -1<<53 || n >= 1<<53 {
			return nil, fmt.Errorf("%s is not an integer below 2^53", v)
		}
		return fmt.Append(b, n), nil
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendCanonical(b, e); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		b = append(b, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k), ':')
			if b, err = appendCanonical(b, v[k]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, fmt.Errorf("%T has no canonical form", v)
}

// appendString writes a JSON string with the escapes of RFC 8785, section 3.2.2.2.
func appendString(b []byte, s string) []byte {
	const short = "\"\"\\\\\bb\ff\nn\rr\tt" // pairs of character and escape
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		if k := strings.IndexByte(short, c); k >= 0 && (c < 0x20 || c == '"' || c == '\\') {
			b = append(b, '\\', short[k|1])
		} else if c < 0x20 {
			b = fmt.Appendf(b, "\\u%04x", c)
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// decode reads canonical JSON into v. Anything that v would not encode back to the same bytes is refused: unknown,
// duplicate and missing members, other spellings of a name, spaces, trailing data.
func decode(file string, data []byte, v any) error {
	if !utf8.Valid(data) {
		return refuse("json", "the file is not UTF-8").in(file)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return refuse("json", "%s", err).in(file)
	}
	again, err := Canonical(v)
	if err != nil {
		return refuse("json", "%s", err).in(file)
	}
	if !bytes.Equal(data, again) {
		return refuse("json", "the JSON is not the canonical form (RFC 8785) of exactly the expected members").in(file)
	}
	return nil
}
