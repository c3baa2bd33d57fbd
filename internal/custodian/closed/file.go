package closed

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/state"
)

// fileName is the state file's, in the custodian's state directory.
const fileName = "closed.json"

// file is the state file.
type file struct {
	Generation int64            `json:"generation"`
	Closed     []closing.Closed `json:"closed"`
	Seen       []string         `json:"seen"`
	Owed       []Change         `json:"owed,omitempty"`
}

// Open reads the state file, which a custodian that never closed anything does not have.
func Open(dir state.Dir) (*Gate, error) {
	text, err := dir.Read(fileName)
	if err != nil {
		return nil, fmt.Errorf("reading what is closed: %w", err)
	}
	var f file
	if text != nil {
		if err := json.Unmarshal(text, &f); err != nil {
			return nil, fmt.Errorf("reading what is closed from %s: %w; put the file back from a backup: without it a frozen credential would be usable", dir.Path(fileName), err)
		}
	}
	g := &Gate{Gate: closing.NewGate(closing.NewState(f.Generation, f.Closed)), dir: dir, seen: map[string]bool{}, owed: f.Owed}
	for _, id := range f.Seen {
		g.seen[id] = true
	}
	g.ahead(len(text))
	return g, nil
}

// Flush writes the state file if it is behind. It replaces the file in one step and syncs it.
func (g *Gate) Flush() error {
	g.saving.Lock()
	defer g.saving.Unlock()
	g.mu.Lock()
	if g.newest == g.saved {
		g.mu.Unlock()
		return nil
	}
	newest, state, seen := g.newest, g.State(), slices.Sorted(maps.Keys(g.seen))
	owed := slices.Clone(g.owed)
	g.mu.Unlock()
	text, err := json.Marshal(file{state.Generation, state.List(), seen, owed})
	if err == nil {
		err = g.dir.Replace(fileName, text)
	}
	if err != nil {
		return fmt.Errorf("writing what is closed: %w; it is in force, but would be open again after a restart", err)
	}
	g.saved = newest
	g.ahead(len(text))
	return nil
}

// room is how many bytes the file may grow by on a full disk: some hundred closings.
const room = 64 << 10

// ahead makes room for the next Flush. A disk that is full already has the room of the file that was replaced.
func (g *Gate) ahead(size int) { _ = g.dir.Ahead(fileName, size+room) }
