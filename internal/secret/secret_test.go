package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const plain = "not-for-your-eyes"

type holder struct {
	Name string
	val  Value
	ptr  *Value
}

func TestNothingPrintsIt(t *testing.T) {
	v := New([]byte(plain))
	h := holder{Name: "h", val: v, ptr: &v}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", v, h, &h)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v, "h", h)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v, "h", h)
	js, err := json.Marshal(map[string]any{"v": v, "p": &v})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(js)
	if err := gob.NewEncoder(&out).Encode(struct{ V Value }{v}); err != nil {
		t.Fatal(err)
	}
	hex := fmt.Sprintf("%x", plain)
	for _, form := range []string{plain, hex, strings.ToUpper(hex), fmt.Sprint([]byte(plain))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret was printed as %q in:\n%s", form, out.String())
		}
	}
}

func TestWipe(t *testing.T) {
	v := New([]byte(plain))
	if !v.Equal([]byte(plain)) || v.Equal([]byte("other")) || v.Len() != len(plain) {
		t.Fatal("Equal or Len is wrong before Wipe")
	}
	v.Wipe()
	if v.Equal([]byte(plain)) {
		t.Error("Wipe left the bytes")
	}
	if !(Value{}).Empty() {
		t.Error("the zero Value is not empty")
	}
}
