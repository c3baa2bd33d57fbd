package sourcetest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// shortest is how many bytes a secret needs for a search to mean anything.
const shortest = 8

// leak returns in which form text holds one of the secrets, or "".
func leak(text string, secrets []string) string {
	for _, s := range secrets {
		for _, part := range append(strings.Split(s, "\n"), s) { // a key in PEM may leak by the line
			part = strings.TrimSpace(part)
			if len(part) < shortest || strings.HasPrefix(part, "-----") && !strings.Contains(part, "\n") {
				continue
			}
			for form, spelled := range spellings(part) {
				if strings.Contains(text, spelled) {
					return form
				}
			}
		}
	}
	return ""
}

// spellings are the forms in which a secret could be printed.
func spellings(s string) map[string]string {
	quoted, _ := json.Marshal(s) // a string: cannot fail
	m := map[string]string{
		"itself": s, "hex": hex.EncodeToString([]byte(s)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(s))),
		"a query's value": url.QueryEscape(s), "a path": url.PathEscape(s), "JSON": strings.Trim(string(quoted), `"`), "a Go string": strings.Trim(fmt.Sprintf("%q", s), `"`),
		"bytes": strings.Trim(fmt.Sprint([]byte(s)), "[]"), "Go bytes": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(s)), "[]byte{"), "}"),
	}
	for before := range 3 { // whatever stands before it
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), s...))
		text = text[(before*8+5)/6 : (before+len(s))*8/6]
		m[fmt.Sprintf("base64 behind %d bytes", before)] = text
		m[fmt.Sprintf("base64url behind %d bytes", before)] = strings.NewReplacer("+", "-", "/", "_").Replace(text)
	}
	return m
}
