package database

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who may change a configuration, and no more, has another user's file sent to no server of his.
func TestPasswordIsItsOwners(t *testing.T) {
	theirs := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(theirs, []byte("a key of another process"), 0o600); err != nil {
		t.Fatal(err)
	}
	for owner, sent := range map[int]string{0: "a key of another process", os.Getuid() + 1: ""} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := make(chan string, 1)
		go func() { got <- asks(l) }()
		db, err := Server{Connection: fmt.Sprintf("postgres://reeve@%s/reeve?sslmode=disable", l.Addr()), PasswordFile: theirs, Owner: owner}.Open(1)
		if err == nil {
			db.Ping()
			db.Close()
		}
		if l.Close(); (err == nil) != (sent != "") {
			t.Errorf("owner %d: %v", owner, err)
		}
		if g := <-got; g != sent {
			t.Errorf("owner %d: the server was sent %q", owner, g)
		}
	}
}

// asks asks the first client for its password in the clear, as a server of PostgreSQL may.
func asks(l net.Listener) string {
	c, err := l.Accept()
	if err != nil {
		return ""
	}
	defer c.Close()
	message := func(head int) (body []byte) {
		b := make([]byte, head)
		if _, err := io.ReadFull(c, b); err != nil {
			return nil
		}
		body = make([]byte, binary.BigEndian.Uint32(b[head-4:])-4)
		io.ReadFull(c, body)
		return body
	}
	message(4) // the startup
	c.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3})
	return strings.TrimRight(string(message(5)), "\x00")
}

// What another machine is sent goes over TLS to a server that proved who it is, whichever of several it is; this machine's needs none.
func TestNotInTheClear(t *testing.T) {
	for connection, good := range map[string]bool{
		"postgres://reeve@db.example/reeve":                                           false, // prefer
		"postgres://reeve@db.example/reeve?sslmode=disable":                           false,
		"postgres://reeve@db.example/reeve?sslmode=allow":                             false,
		"postgres://reeve@db.example/reeve?sslmode=prefer":                            false,
		"postgres://reeve@db.example/reeve?sslmode=require":                           false,
		"postgres://reeve@db.example/reeve?sslmode=verify-ca":                         true,
		"postgres://reeve@db.example/reeve?sslmode=verify-full":                       true,
		"postgres://reeve@10.0.0.1/reeve?sslmode=disable":                             false,
		"host=db.example dbname=reeve sslmode=disable":                                false,
		"host=localhost,db.example dbname=reeve":                                      false,
		"host=/run/postgresql,db.example dbname=reeve sslmode=require":                false,
		"host=db.example,db2.example port=5432,5433 dbname=reeve sslmode=verify-full": true,
		"host=/run/postgresql dbname=reeve":                                           true,
		"host=localhost dbname=reeve":                                                 true,
		"postgres://reeve@127.0.0.1:5433/reeve?sslmode=disable":                       true,
		"postgres://reeve@[::1]/reeve":                                                true,
		"host=localhost.db.example dbname=reeve":                                      false,
	} {
		err := Server{Connection: connection}.Check()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "sslmode=verify-full") {
			t.Errorf("%s: %v", connection, err)
		}
		if db, err := (Server{Connection: connection}).Open(1); (err == nil) != good {
			t.Errorf("%s is opened: %v", connection, err)
		} else if err == nil {
			db.Close()
		}
	}
}
