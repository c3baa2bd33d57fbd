package statement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Canonical returns v as RFC 8785 JSON. v may hold objects with ASCII member names, arrays, strings of UTF-8 without U+2028
// and U+2029, booleans and integers below 2^53: encoding/json then writes the canonical form of its own generic tree.
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
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		return nil, err
	}
	for _, s := range []string{`\u2028`, `\u2029`, `\ufffd`} {
		if bytes.Contains(raw, []byte(s)) {
			return nil, fmt.Errorf("the text has %s, or is not UTF-8", s)
		}
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), integers(tree)
}

// integers refuses numbers that a reader with IEEE 754 doubles would change.
func integers(tree any) (err error) {
	switch v := tree.(type) {
	case json.Number:
		n, bad := strconv.ParseInt(v.String(), 10, 64)
		if bad != nil || n <= -1<<53 || n >= 1<<53 {
			return fmt.Errorf("%s is not an integer below 2^53", v)
		}
	case []any:
		for _, e := range v {
			if err == nil {
				err = integers(e)
			}
		}
	case map[string]any:
		for _, e := range v {
			if err == nil {
				err = integers(e)
			}
		}
	}
	return err
}

// decode reads canonical JSON into v. Anything that v would not encode back to the same bytes is refused: unknown,
// duplicate and missing members, other spellings of a name, spaces, trailing data.
func decode(file string, data []byte, v any) error {
	if len(data) > maxJSON {
		return refuse("size", "the JSON has more than %d bytes", maxJSON).in(file)
	}
	err := json.Unmarshal(data, v)
	if err == nil && !utf8.Valid(data) {
		err = fmt.Errorf("it is not UTF-8")
	}
	again, bad := Canonical(v)
	if err == nil {
		err = bad
	}
	if err == nil && !bytes.Equal(data, again) {
		err = fmt.Errorf("it is not the canonical form (RFC 8785) of exactly the expected members")
	}
	if err != nil {
		return refuse("json", "the JSON cannot be read: %v", err).in(file)
	}
	return nil
}
