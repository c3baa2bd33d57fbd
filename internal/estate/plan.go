package estate

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/docs/schema"
	"github.com/reevehq/reeve/internal/statement"
)

// Plan is the content of an estate before anything is signed.
type Plan struct {
	Charter    statement.Charter
	Policies   map[string]*statement.PolicyStatement  // by unit id
	Cedar      map[string]map[string]string           // by unit id and file name
	Forbids    map[string]string                      // the charter's Cedar, by file name
	Custody    map[string]*statement.CustodyStatement // by unit id
	Operations statement.Operations
}

// schemaDir is where editors find what the files may say.
const schemaDir = ".schema"

// Marshal writes an owners' file, with the line by which editors find its schema. name is its path below the estate.
func Marshal(v any, name ...string) ([]byte, error) {
	b, err := yaml.MarshalWithOptions(v, yaml.OmitZero(), yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true))
	if err != nil {
		return nil, err
	}
	file := strings.TrimSuffix(name[len(name)-1], ".yaml") + ".json"
	line := "# yaml-language-server: $schema=" + strings.Repeat("../", len(name)-1) + schemaDir + "/" + file + "\n"
	return append([]byte(line), b...), nil
}

// Write writes the owners' files, and the schemas beside them.
func (p *Plan) Write(d Dir) error {
	put := func(b []byte, name ...string) error {
		file := filepath.Join(append([]string{string(d)}, name...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return os.WriteFile(file, b, 0o644)
	}
	write := func(v any, name ...string) error {
		b, err := Marshal(v, name...)
		if err != nil {
			return err
		}
		return put(b, name...)
	}
	schemas, err := fs.Glob(schema.Files, "*.json")
	if err != nil {
		return err
	}
	for _, name := range schemas {
		b, err := schema.Files.ReadFile(name)
		if err != nil {
			return err
		}
		if err := put(b, schemaDir, name); err != nil {
			return err
		}
	}
	if err := write(p.Charter, "charter.yaml"); err != nil {
		return err
	}
	if err := write(p.Operations, "operations.yaml"); err != nil {
		return err
	}
	for name, text := range p.Forbids {
		if err := put([]byte(text), name); err != nil {
			return err
		}
	}
	for _, u := range p.Charter.Units {
		if err := write(p.Policies[u.ID], "units", u.ID, "policy.yaml"); err != nil {
			return err
		}
		if err := write(p.Custody[u.ID], "units", u.ID, "custody.yaml"); err != nil {
			return err
		}
		for name, text := range p.Cedar[u.ID] {
			if err := put([]byte(text), "units", u.ID, name); err != nil {
				return err
			}
		}
	}
	// Signed files are byte-exact: no line ending conversion.
	return put([]byte("* -text\n"), ".gitattributes")
}

// Lives are how long what Create signs is valid.
type Lives struct{ Statements, Lock time.Duration }

// Create writes the plan into a new estate directory, has every statement signed as the roles of the charter want it by the
// people whose keys are given, and publishes it. It returns the pin for the processes.
func (p *Plan) Create(d Dir, people []*Signer, now time.Time, lives Lives) (statement.Pin, *statement.Set, error) {
	if _, err := os.Stat(d.Signed()); err == nil {
		return statement.Pin{}, nil, fmt.Errorf("%s is an estate already", d)
	}
	if err := p.Write(d); err != nil {
		return statement.Pin{}, nil, err
	}
	if err := d.SignAll(&p.Charter, Names(&p.Charter), people, now, lives); err != nil {
		return statement.Pin{}, nil, err
	}
	raw, err := d.Drafts().ReadFile("charter/1/manifest.json")
	if err != nil {
		return statement.Pin{}, nil, err
	}
	pin := statement.Pin{Estate: p.Charter.Estate, CharterSHA256: hash(raw), AllowDemo: p.Charter.Demo}
	set, err := d.Publish(pin, now)
	return pin, set, err
}

// SignAll drafts the statements and has each signed by all of the people, a first one who does not hold its role as the author:
// holders of the role approve it, and whoever answers for an item that it changes has signed too.
func (d Dir) SignAll(c *statement.Charter, names []string, people []*Signer, now time.Time, lives Lives) error {
	for _, name := range names {
		life := lives.Statements
		if name == "lock" {
			life = lives.Lock
		}
		author := people[0]
		for _, s := range people {
			if !c.MayApprove(s.Person, name) {
				author = s
				break
			}
		}
		if _, err := d.Sign(c.Estate, name, author, Terms{now, now.Add(life)}); err != nil {
			return err
		}
		for _, s := range people {
			if s == author {
				continue
			}
			if err := d.Approve(name, s); err != nil {
				return err
			}
		}
	}
	return nil
}
