package estate

import (
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// effect compares what is published with what would be, had the statement these files and were everything that waits published too.
// It is for the signer's eyes: no signature is looked at.
func (d Dir) effect(name string, files map[string][]byte, t time.Time) *Effect {
	next, err := waysOf(d.Drafts(), name, files, t)
	if err != nil {
		return &Effect{Unknown: err.Error()}
	}
	var old []reach.Path
	if newest, err := statement.Newest(d.Store(), "charter"); err != nil || newest > 0 {
		if old, err = waysOf(d.Store(), "", nil, t); err != nil {
			return &Effect{Unknown: err.Error()}
		}
	}
	return &Effect{Opens: Sentences(lacking(next, old)), Closes: Sentences(lacking(old, next))}
}

// waysOf are the uses that the newest statements of a store allow, with the files of one of them replaced.
func waysOf(store statement.Store, name string, files map[string][]byte, t time.Time) ([]reach.Path, error) {
	newest := func(of string) (map[string][]byte, error) {
		if of == name {
			return files, nil
		}
		v, err := statement.Newest(store, of)
		if err == nil && v == 0 {
			err = fmt.Errorf("%s is not drafted yet", of)
		}
		return before(store, of, v), err
	}
	charter, err := newest("charter")
	if err != nil {
		return nil, err
	}
	c, err := statement.ParseCharter("charter.yaml", charter["charter.yaml"])
	if err != nil {
		return nil, err
	}
	all := map[string]statement.Files{}
	for _, of := range Names(c) {
		if of == "lock" {
			continue
		}
		b, err := newest(of)
		if err != nil {
			return nil, err
		}
		all[of] = statement.Files{Dir: of, Bytes: b}
	}
	set, err := statement.Check(all)
	if err != nil {
		return nil, err
	}
	set.Expires = t.Add(time.Hour) // what nobody has signed has no end yet
	return paths(set, t)
}
