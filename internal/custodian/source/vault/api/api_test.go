package api

import (
	"encoding/json"
	"testing"
)

// What is taken for an answer gives texts that are those of its JSON, and can be wiped.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"request_id":"a","lease_id":"database/creds/readonly/L1","renewable":true,"lease_duration":3600,"data":{"password":"p\u00e9","username":"v-readonly"},"auth":null}`,
		`{"lease_id":"","data":{"data":{"key":"k"},"metadata":{"version":1}},"auth":{"client_token":"t","policies":["default"],"lease_duration":1200,"renewable":true}}`,
		`{"data":null}`, `{"data":{"password":1}}`, `{"data":{"password":""}}`, `null`, `[]`, ` {}`, `{"lease_duration":1e3}`, `{}x`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parse(b)
		if !ok {
			return
		}
		if !json.Valid(b) {
			t.Fatal("taken, and no JSON")
		}
		v, err := a.Text("password")
		if err != nil {
			return
		}
		var want struct{ Data map[string]any }
		if err := json.Unmarshal(b, &want); err != nil || v.Empty() || v.Len() > Longest || !v.Equal([]byte(want.Data["password"].(string))) {
			t.Fatalf("%q, want %q (%v)", v.Reveal(), want.Data["password"], err)
		}
		a.Wipe()
		for name, raw := range a.Data {
			for _, c := range raw {
				if c != 0 {
					t.Fatalf("%s is not wiped", name)
				}
			}
		}
	})
}

func TestObject(t *testing.T) {
	b, err := Object([]byte("role_id"), []byte("r"), []byte("secret_id"), []byte("s-1"))
	if err != nil || string(b) != `{"role_id":"r","secret_id":"s-1"}` {
		t.Errorf("%s, %v", b, err)
	}
	for _, v := range []string{"", `a"b`, `a\b`, "a b", "a\n", "\xff", "é"} {
		if b, err := Object([]byte("token"), []byte(v)); err == nil {
			t.Errorf("%q: %s", v, b)
		}
	}
}
