package admin_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/statement"
)

// custodian remembers what it was told.
type custodian struct{ told []string }

func (c *custodian) Status() *admin.Status {
	return &admin.Status{ID: "c1", Lock: 7, Closed: []admin.Closed{{Target: statement.Target{Kind: "everything"}, By: "admin"}}}
}

func (c *custodian) Recovered(string) ([]byte, error) { return []byte("age"), nil }

func (c *custodian) Freeze(target statement.Target, reason string) (string, error) {
	c.told = append(c.told, "freeze "+target.Kind+" "+target.ID+" "+reason)
	if target.ID == "unsaved" {
		return "frozen", errors.New("the disk is full")
	}
	return "frozen", nil
}

func (c *custodian) Accept(record []byte) (string, error) {
	c.told = append(c.told, "accept "+string(record))
	return "", errors.New("nobody signed it")
}

func (c *custodian) Reload() (string, error) { return "reloaded", nil }

func TestBothEnds(t *testing.T) {
	dir, err := os.MkdirTemp("", "reeve")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "admin")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	c := &custodian{}
	server := &http.Server{Handler: admin.Handler(c)}
	go server.Serve(ln)
	defer server.Close()
	client, ctx := operator.New(socket), context.Background()

	status, err := client.Status(ctx)
	if diff := cmp.Diff(c.Status(), status); err != nil || diff != "" {
		t.Errorf("status: %v\n%s", err, diff)
	}
	if done, err := client.Freeze(ctx, statement.Target{Kind: "unit", ID: "research"}, "test"); err != nil || done != "frozen" {
		t.Errorf("%q, %v", done, err)
	}
	if done, err := client.Freeze(ctx, statement.Target{Kind: "unit", ID: "unsaved"}, "test"); err == nil || done != "frozen" || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("%q, %v", done, err)
	}
	if _, err := client.Accept(ctx, []byte("{}")); err == nil || !strings.Contains(err.Error(), "nobody signed it") {
		t.Errorf("%v", err)
	}
	if _, err := client.Accept(ctx, make([]byte, 64<<10+1)); err == nil {
		t.Error("a record without bounds was read")
	}
	if done, err := client.Reload(ctx); err != nil || done != "reloaded" {
		t.Errorf("%q, %v", done, err)
	}
	if diff := cmp.Diff([]string{"freeze unit research test", "freeze unit unsaved test", "accept {}"}, c.told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if _, err := operator.New(socket + "x").Status(ctx); err == nil || !strings.Contains(err.Error(), "no custodian runs at") {
		t.Errorf("%v", err)
	}
}
