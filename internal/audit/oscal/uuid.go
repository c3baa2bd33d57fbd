package oscal

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// space is the name space of the ids below: the version 5 UUID of "github.com/reevehq/reeve/oscal" in the name space of URLs.
func space() [16]byte {
	return uuid5([16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}, "https://github.com/reevehq/reeve/oscal")
}

// uuid5 is RFC 9562, section 5.5.
func uuid5(space [16]byte, name string) (u [16]byte) {
	sum := sha1.Sum(append(space[:], name...))
	copy(u[:], sum[:])
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return u
}

// id is the same for the same words.
func id(words ...string) string {
	u := uuid5(space(), strings.Join(words, "\x00"))
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// idOf is a document's: of its kind and all that it says. Its own member is empty by then.
func idOf(kind string, document any) (string, error) {
	b, err := json.Marshal(document)
	return id(kind, string(b)), err
}
