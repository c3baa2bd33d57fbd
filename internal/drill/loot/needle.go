// Package loot is what an attacker's code does once it runs somewhere: it looks for downstream secrets in every place that
// it can reach, and reports where it found one. It never holds a secret itself: it searches by digest.
package loot

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// Needle is one written form of one secret, known by its length and digests only, so that the searching process does not put
// into its own memory what it looks for there.
type Needle struct {
	Secret string   `json:"secret"` // name of the credential
	Form   string   `json:"form"`   // raw, base64, hex …
	Length int      `json:"length"` // bytes
	Roll   uint64   `json:"roll"`   // rolling hash of the bytes
	Sum    [32]byte `json:"sum"`    // SHA-256 of the bytes
}

// Escaped returns the forms in which every character of a secret is escaped, as an answer may hold it.
func Escaped(name string, secret []byte) (needles []Needle) {
	for form, format := range map[string]string{"url": "%%%02X", "json": `\u%04x`, "html": "&#%d;", "html hex": "&#x%X;"} {
		var text []byte
		for _, c := range secret {
			text = fmt.Appendf(text, format, c)
		}
		needles = append(needles, needle(name, form, text))
	}
	return needles
}

func needle(name, form string, text []byte) Needle {
	return Needle{Secret: name, Form: form, Length: len(text), Roll: rollOf(text), Sum: sha256.Sum256(text)}
}

// Needles returns the forms of a secret that a memory, a file or an answer may hold.
func Needles(name string, secret []byte) []Needle {
	var needles []Needle
	add := func(form string, text []byte) {
		n := needle(name, form, text)
		for _, have := range needles {
			if have.Sum == n.Sum {
				return
			}
		}
		needles = append(needles, n)
	}
	add("raw", secret)
	for alignment := range 3 {
		add("base64", innerBase64(base64.RawStdEncoding, secret, alignment))
		add("base64url", innerBase64(base64.RawURLEncoding, secret, alignment))
	}
	lower := hex.EncodeToString(secret)
	add("hex", []byte(lower))
	add("hex", []byte(strings.ToUpper(lower)))
	add("url", []byte(url.QueryEscape(string(secret))))
	wide := make([]byte, 0, 2*len(secret))
	for _, c := range secret {
		wide = append(wide, c, 0)
	}
	add("utf-16", wide)
	return needles
}

// innerBase64 is the part of an encoding that does not depend on what stands around the secret, when alignment bytes precede it.
func innerBase64(enc *base64.Encoding, secret []byte, alignment int) []byte {
	padded := append(make([]byte, alignment), secret...)
	text := enc.EncodeToString(padded)
	first := (alignment*8 + 5) / 6
	last := len(padded) * 8 / 6
	return []byte(text[first:last])
}

const rollBase = 1099511628211 // odd: multiplication modulo 2^64 loses nothing

// rollOf is the polynomial hash of text modulo 2^64.
func rollOf(text []byte) uint64 {
	var h uint64
	for _, c := range text {
		h = h*rollBase + uint64(c) + 1
	}
	return h
}

// Find returns the needles that stand in b, each once.
func Find(needles []Needle, b []byte) []Needle {
	byLength := map[int][]Needle{}
	for _, n := range needles {
		byLength[n.Length] = append(byLength[n.Length], n)
	}
	var found []Needle
	for length, group := range byLength {
		found = append(found, findLength(group, length, b)...)
	}
	return found
}

func findLength(group []Needle, length int, b []byte) []Needle {
	if len(b) < length || length == 0 {
		return nil
	}
	top := uint64(1)
	for range length - 1 {
		top *= rollBase
	}
	var found []Needle
	h := rollOf(b[:length])
	for i := length; ; i++ {
		for k, n := range group {
			if n.Roll == h && n.Length > 0 && sha256.Sum256(b[i-length:i]) == n.Sum {
				found = append(found, n)
				group[k].Length = 0 // once is enough
			}
		}
		if i == len(b) {
			return found
		}
		h = (h-(uint64(b[i-length])+1)*top)*rollBase + uint64(b[i]) + 1
	}
}

// Longest is the longest needle's length: what two pieces of one stream must overlap by.
func Longest(needles []Needle) int {
	longest := 0
	for _, n := range needles {
		longest = max(longest, n.Length)
	}
	return longest
}
