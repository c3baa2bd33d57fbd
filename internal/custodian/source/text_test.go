package source

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// Text reads what encoding/json reads, but halves of characters.
func FuzzText(f *testing.F) {
	for _, s := range []string{
		`"plain"`, `""`, `null`, `1`, `{}`, `["a"]`, `"-----BEGIN\nkey\n"`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\u20ac"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`, `"\ud83d\u0041"`,
		`"\ud83d\n12345"`, "\"\xff\"", `"é"`, `"\u"`, `"\u12"`, `"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var want string
		wrong := json.Unmarshal([]byte(s), &want)
		var got Text
		err := json.Unmarshal([]byte(s), &got)
		switch {
		case wrong != nil && err == nil:
			t.Fatalf("%q: taken, encoding/json says %v", s, wrong)
		case wrong == nil && err == nil && string(got.Reveal()) != want:
			t.Fatalf("%q: %q, want %q", s, got.Reveal(), want)
		case wrong == nil && err != nil && utf8.ValidString(s) && !strings.ContainsRune(want, utf8.RuneError):
			t.Fatalf("%q: %v", s, err)
		}
	})
}

func TestTextPrintsNothing(t *testing.T) {
	var v struct{ Token Text }
	if err := json.Unmarshal([]byte(`{"token":"not-for-your-eyes"}`), &v); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(v); err != nil || string(b) != `{"Token":"[secret]"}` {
		t.Errorf("%s, %v", b, err)
	}
	v.Token.Wipe()
	if v.Token.Equal([]byte("not-for-your-eyes")) {
		t.Error("not wiped")
	}
}
