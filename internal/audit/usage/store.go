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

	"github.com/reevehq/reeve/internal/plain"
)

// folder is where the results are, in the auditor's state directory.
const folder = "usage"

// mostResult is how long a result may be, in bytes.
const mostResult = 64 << 20

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
	root, err := os.OpenRoot(state)
	if err != nil {
		return "", err
	}
	defer root.Close()
	kept, err := plain.FolderIn(root, folder, 0o750)
	if err != nil {
		return "", fmt.Errorf("the folder of what was compared: %w", err)
	}
	defer kept.Close()
	name := fmt.Sprintf("%s-%s%s.json", r.From.UTC().Format("20060102T150405Z"), r.Provider, of)
	return filepath.Join(state, folder, name), plain.Replace(kept, name, append(b, '\n'), 0o640)
}

// Load reads all results in the auditor's state directory, the oldest window first. No folder is no result.
func Load(state string) (all []Result, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("reading what was compared with providers: %w", err)
		}
	}()
	root, err := plain.Folder(filepath.Join(state, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		b, err := plain.ReadIn(root, f.Name(), mostResult)
		var r Result
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err == nil && r.V != 1 {
			err = fmt.Errorf("version %d", r.V)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b Result) int { return a.From.Compare(b.From) })
	return all, nil
}
