package main

import (
	"errors"
	"os/user"
	"strings"
	"testing"
)

// A freeze without --reason names who typed it, also where the user has no name, as in containers.
func TestWhoFreezes(t *testing.T) {
	if got := whoami(&user.User{Username: "bea"}, nil); got != "bea" {
		t.Errorf("got %q, want bea", got)
	}
	if got := whoami(nil, errors.New("unknown userid")); !strings.HasPrefix(got, "user ") {
		t.Errorf("got %q, want the number of the user", got)
	}
}
