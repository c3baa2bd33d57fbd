package estate

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/statement"
)

// Entry is a key as it is written under the keys of a person in charter.yaml.
func Entry(k statement.Key) ([]byte, error) {
	return yaml.MarshalWithOptions([]statement.Key{k}, yaml.OmitZero())
}

// ReadKey reads a person's public key: the base64 of an Ed25519 key, an OpenSSH public key, or the name of a file that holds an OpenSSH
// public key or what Entry wrote. Its id becomes keyID. A key that no charter may have is refused.
func ReadKey(keyID, text string) (k statement.Key, err error) {
	if b, err := os.ReadFile(text); err == nil {
		text = strings.TrimSpace(string(b))
	}
	fields := strings.Fields(text)
	switch {
	case strings.HasPrefix(text, "- ") || strings.HasPrefix(text, "#"):
		var list []statement.Key
		if err := yaml.NewDecoder(bytes.NewReader([]byte(text)), yaml.Strict()).Decode(&list); err != nil || len(list) != 1 {
			return k, fmt.Errorf("it is not one key as reeve key add prints it: %w", err)
		}
		k = list[0]
	case len(fields) > 1 && !strings.Contains(text, "\n"):
		k = statement.Key{Type: "ssh", Public: fields[0] + " " + fields[1]} // the rest is a comment
	default:
		k = statement.Key{Type: "ed25519", Public: text}
	}
	k.ID = keyID
	return k, k.Check()
}

// KeysOf lists a person's keys, in the owners' charter and in the published one: a change of the charter is signed with the keys of
// both. Nothing of it is verified.
func (d Dir) KeysOf(person string) ([]statement.Key, error) {
	var keys []statement.Key
	add := func(b []byte) error {
		c, err := statement.ParseCharter("charter.yaml", b)
		if err != nil {
			return err
		}
		for _, p := range c.People {
			for _, k := range p.Keys {
				if p.ID == person && !slices.Contains(keys, k) {
					keys = append(keys, k)
				}
			}
		}
		return nil
	}
	files, err := d.Files("charter")
	if err == nil {
		err = add(files["charter.yaml"])
	}
	newest, bad := statement.Newest(d.Store(), "charter")
	if bad != nil {
		return nil, bad
	}
	if newest > 0 {
		b, bad := d.Store().ReadFile(fmt.Sprintf("charter/%d/charter.yaml", newest))
		if bad != nil {
			return nil, bad
		}
		if bad := add(b); bad != nil && err == nil {
			err = bad
		}
	}
	if len(keys) == 0 && err == nil {
		err = fmt.Errorf("%w %q", ErrPerson, person)
	}
	if len(keys) > 0 {
		err = nil // a draft that cannot be read hinders nobody from signing with what is published
	}
	return keys, err
}
