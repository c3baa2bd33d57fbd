package closing

import (
	"encoding/json"
	"fmt"

	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/statement"
)

// fileName is the state file's, in the custodian's state directory.
const fileName = "closed.json"

// file is the state file.
type file struct {
	Generation int64              `json:"generation"`
	Closed     []Closed           `json:"closed"`
	Seen       map[string][]int64 `json:"seen"`
}

// Open reads the state file, which a custodian that never closed anything does not have.
func Open(dir state.Dir) (*Gate, error) {
	g := &Gate{dir: dir, seen: map[string][]int64{}}
	for i := range g.live {
		g.live[i].uses = map[*Use]struct{}{}
	}
	state := &State{closed: map[statement.Target]*Closed{}}
	g.state.Store(state)
	text, err := dir.Read(fileName)
	if err != nil {
		return nil, fmt.Errorf("reading what is closed: %w", err)
	}
	if text == nil {
		return g, nil
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("reading what is closed from %s: %w; put the file back from a backup: without it a frozen credential would be usable", dir.Path(fileName), err)
	}
	state.Generation = f.Generation
	for i := range f.Closed {
		state.closed[f.Closed[i].Target] = &f.Closed[i]
	}
	if f.Seen != nil {
		g.seen = f.Seen
	}
	return g, nil
}

// flush needs mu. It replaces the file in one step and syncs it.
func (g *Gate) flush() error {
	if !g.dirty {
		return nil
	}
	state := g.state.Load()
	text, err := json.Marshal(file{state.Generation, state.List(), g.seen})
	if err == nil {
		err = g.dir.Replace(fileName, text)
	}
	if err != nil {
		return fmt.Errorf("writing what is closed: %w; it is in force, but would be open again after a restart", err)
	}
	g.dirty = false
	return nil
}
