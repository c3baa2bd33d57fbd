package usage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/durable"
)

// folder is where the results are, in the auditor's state directory.
const folder = "usage"

// Write keeps a result in the auditor's state directory. The same export compared again takes the place of its result before.
func Write(state string, r *Result) (path string, err error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	of := ""
	if len(r.Source) > 0 {
		of = "-" + r.Source[0].SHA256[:16]
	}
	path = filepath.Join(state, folder, fmt.Sprintf("%s-%s%s.json", r.From.UTC().Format("20060102T150405Z"), r.Provider, of))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", err
	}
	return path, durable.Replace(path, append(b, '\n'), 0o640)
}

// Load reads all results in the auditor's state directory, the oldest window first. No folder is no result.
func Load(state string) ([]Result, error) {
	files, err := os.ReadDir(filepath.Join(state, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was compared with providers: %w", err)
	}
	var all []Result
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(state, folder, f.Name()))
		var r Result
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err == nil && r.V != 1 {
			err = fmt.Errorf("version %d", r.V)
		}
		if err != nil {
			return nil, fmt.Errorf("reading what was compared with providers: %s: %w", f.Name(), err)
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b Result) int { return a.From.Compare(b.From) })
	return all, nil
}
