package usage

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStoreStaysInTheState: who has taken the auditor over makes the folder of the results, or a result, a link; root writes and reads nothing
// behind it.
func TestStoreStaysInTheState(t *testing.T) {
	state, elsewhere := t.TempDir(), t.TempDir()
	path, err := Write(state, &Result{V: 1, Provider: "openai"})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := Load(state); err != nil || len(all) != 1 || all[0].Provider != "openai" {
		t.Fatalf("%v, %v", all, err)
	}
	theirs := filepath.Join(elsewhere, "theirs.json")
	if err := os.Rename(path, theirs); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(state, folder, "x.json")
	if err := os.Symlink(theirs, link); err != nil {
		t.Fatal(err)
	}
	if all, err := Load(state); err == nil {
		t.Errorf("read through a link: %v", all)
	}
	if err := os.RemoveAll(filepath.Join(state, folder)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(state, folder)); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(state, &Result{V: 1, Provider: "openai"}); err == nil {
		t.Error("written through a link")
	}
	if all, err := Load(state); err == nil {
		t.Errorf("read from the folder behind a link: %v", all)
	}
	if names, err := os.ReadDir(elsewhere); err != nil || len(names) != 1 {
		t.Errorf("behind the link: %v, %v", names, err)
	}
}
