// Package secret holds bytes that must not be printed, logged or encoded.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every encoder sees instead of the bytes.
const redacted = "[secret]"

// Value is a secret. Its bytes live in a closure, not in a field: a string field leaks when a Value is held in
// another struct's unexported field, because fmt then prints fields without calling methods. The zero Value is empty.
type Value struct {
	reveal func() []byte
}

// New takes ownership of b: the caller must neither keep nor change it.
func New(b []byte) Value {
	return Value{reveal: func() []byte { return b }}
}

// Reveal returns the bytes themselves, not a copy. The caller uses them for one operation and lets them go.
func (v Value) Reveal() []byte {
	if v.reveal == nil {
		return nil
	}
	return v.reveal()
}

// Len returns the length in bytes.
func (v Value) Len() int { return len(v.Reveal()) }

// Empty reports whether there is no secret.
func (v Value) Empty() bool { return v.Len() == 0 }

// Equal compares in constant time for equal lengths.
func (v Value) Equal(b []byte) bool { return subtle.ConstantTimeCompare(v.Reveal(), b) == 1 }

// Wipe overwrites the bytes with zeros. Copies that others made are not reached.
func (v Value) Wipe() { clear(v.Reveal()) }

// Format implements fmt.Formatter for every verb.
func (Value) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, and with it JSON, YAML and XML.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// GobEncode implements gob.GobEncoder.
func (Value) GobEncode() ([]byte, error) { return []byte(redacted), nil }
