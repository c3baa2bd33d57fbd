package uuid

import (
	"encoding/hex"
	"testing"
)

// The example of RFC 9562, appendix A.4: www.example.com in the name space of DNS.
func TestFive(t *testing.T) {
	dns := [16]byte{0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	u := five(dns, "www.example.com")
	if got := hex.EncodeToString(u[:]); got != "2ed6657de927568b95e12665a8aea6a2" {
		t.Fatal(got)
	}
	if Of("a", "b") == Of("ab") {
		t.Fatal("words run together")
	}
}
