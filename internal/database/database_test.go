package database

import (
	"strings"
	"testing"
)

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
