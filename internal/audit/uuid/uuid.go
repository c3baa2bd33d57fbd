// Package uuid names things so that the same words give the same id.
package uuid

import (
	"crypto/sha1"
	"encoding/hex"
	"strings"
)

// url is the name space of URLs (RFC 9562, section 6.6).
func url() [16]byte {
	return [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
}

// Of is the version 5 UUID (RFC 9562, section 5.5) of words, in reeve's own name space: that of "https://github.com/reevehq/reeve" in the one of URLs.
func Of(words ...string) string {
	u := five(five(url(), "https://github.com/reevehq/reeve"), strings.Join(words, "\x00"))
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

func five(space [16]byte, name string) (u [16]byte) {
	sum := sha1.Sum(append(space[:], name...))
	copy(u[:], sum[:])
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return u
}
