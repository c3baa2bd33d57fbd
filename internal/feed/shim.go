package feed

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/statement"
)

// These stand in for what package statement brings with its first form; then this file goes.

func statementPAE(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

func statementVerifyService(k statement.ServiceKey, payloadType string, payload, sig []byte) bool {
	v, err := note.NewVerifier(k.Key)
	return err == nil && v.Verify(statementPAE(payloadType, payload), sig)
}

type statementDir string

func (d statementDir) ReadFile(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(d), name))
}

func (d statementDir) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(string(d), name))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, err
}

func statementNewest(store statement.Store, name string) (last int64, err error) {
	names, err := store.ReadDir(name)
	for _, n := range names {
		if v, err := strconv.ParseInt(n, 10, 64); err == nil {
			last = max(last, v)
		}
	}
	return last, err
}
