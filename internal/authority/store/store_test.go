package store_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/authority/store/postgrestest"
	"github.com/reevehq/reeve/internal/database"
)

// backend opens the same database again and again.
type backend struct {
	name string
	try  func() (*store.Store, error)
	raw  func() (*sql.DB, error)
}

func (b backend) open(t testing.TB) *store.Store {
	t.Helper()
	s, err := b.try()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// conform is what every database must do.
var conform = map[string]func(*testing.T, backend){
	"journal":      journal,
	"published":    published,
	"once":         once,
	"fencing":      fencing,
	"lease":        lease,
	"newer":        newer,
	"many at once": manyAtOnce,
}

func TestSQLite(t *testing.T) {
	for name, test := range conform {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a b?c#d%.db")
			test(t, backend{"sqlite", func() (*store.Store, error) { return store.OpenFile(t.Context(), path) }, func() (*sql.DB, error) {
				return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath())
			}})
		})
	}
}

func TestPostgreSQL(t *testing.T) {
	server := postgrestest.Start(t)
	n := 0
	for name, test := range conform {
		t.Run(name, func(t *testing.T) {
			n++
			where := server.Database(t, fmt.Sprintf("reeve%d", n))
			test(t, backend{"postgres", func() (*store.Store, error) {
				return store.OpenServer(t.Context(), database.Server{Connection: where})
			}, func() (*sql.DB, error) { return sql.Open("pgx", where) }})
		})
	}
}

func line(kind store.Kind, name string) store.Line {
	return store.Line{Kind: kind, ID: sha256.Sum256([]byte(name)), Body: []byte(name)}
}

func read(t testing.TB, s *store.Store, after int64) (bodies []string, last int64) {
	t.Helper()
	err := s.Read(t.Context(), after, func(l store.Line) error {
		if l.Seq <= last || l.ID != sha256.Sum256(l.Body) && len(l.Body) > 0 {
			t.Errorf("line %d after %d with id %x", l.Seq, last, l.ID)
		}
		bodies, last = append(bodies, string(l.Kind)+" "+string(l.Body)), l.Seq
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bodies, last
}

func journal(t *testing.T, b backend) {
	s := b.open(t)
	bytes := store.Line{Kind: store.Received, ID: sha256.Sum256([]byte("\x00\xff'\"\\")), Body: []byte("\x00\xff'\"\\")}
	empty := store.Line{Kind: store.Entered, ID: sha256.Sum256([]byte("one"))}
	for _, l := range []store.Line{line(store.Received, "one"), bytes, empty, line(store.Received, "one")} {
		if err := s.Append(t.Context(), 0, l); err != nil {
			t.Fatal(err)
		}
	}
	got, last := read(t, s, 0)
	if diff := cmp.Diff([]string{"received one", "received \x00\xff'\"\\", "entered "}, got); diff != "" {
		t.Error(diff)
	}
	s.Close()
	again := b.open(t) // everything is there after a restart, and only what is new is read
	if got, _ := read(t, again, 0); len(got) != 3 {
		t.Errorf("after a restart: %q", got)
	}
	if err := again.Append(t.Context(), 0, line(store.Received, "two")); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, again, last); !cmp.Equal(got, []string{"received two"}) {
		t.Errorf("after line %d: %q", last, got)
	}
	stop := errors.New("stop")
	if err := again.Read(t.Context(), 0, func(store.Line) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a reader that stops: %v", err)
	}
}

// published keeps the newest set only, in its place in the order.
func published(t *testing.T, b backend) {
	s := b.open(t)
	for _, l := range []store.Line{line(store.Published, "set 1"), line(store.Received, "one"), line(store.Published, "set 2"), line(store.Published, "set 2")} {
		if err := s.Append(t.Context(), 0, l); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := read(t, s, 0); !cmp.Equal(got, []string{"received one", "published set 2"}) {
		t.Errorf("%q", got)
	}
	if err := errors.Join(s.Append(t.Context(), 0, line(store.Entered, "one")), s.Forget(t.Context(), 0, line(store.Received, "one").ID)); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, s, 0); !cmp.Equal(got, []string{"published set 2", "entered one"}) && !cmp.Equal(got, []string{"published set 2", "entered "}) {
		t.Errorf("what was forgotten: %q", got)
	}
}

func once(t *testing.T, b backend) {
	s := b.open(t)
	use := func(s *store.Store, name string, until time.Duration) bool {
		t.Helper()
		first, err := s.Once(t.Context(), 0, sha256.Sum256([]byte(name)), time.Now().Add(until))
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	if !use(s, "a", time.Hour) || use(s, "a", time.Hour) || !use(s, "b", time.Hour) {
		t.Error("an id counts once")
	}
	s.Close()
	s = b.open(t)
	if use(s, "a", time.Hour) {
		t.Error("a restart forgot a use")
	}
	use(s, "past", -time.Hour)
	use(s, "another", time.Hour)
	if !use(s, "past", time.Hour) {
		t.Error("what cannot be used anyway is not forgotten")
	}
}

// fencing: an old holder writes nothing.
func fencing(t *testing.T, b backend) {
	s := b.open(t)
	old, err := s.Acquire(t.Context(), "a1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Release(t.Context(), old), s.Append(t.Context(), old.Epoch, line(store.Received, "by the holder"))); err != nil {
		t.Fatal(err)
	}
	next, err := s.Acquire(t.Context(), "a2", time.Now())
	if err != nil || next.Epoch != old.Epoch+1 {
		t.Fatalf("epoch %d after %d, %v", next.Epoch, old.Epoch, err)
	}
	if err := s.Append(t.Context(), old.Epoch, line(store.Received, "late")); !errors.Is(err, store.ErrLost) {
		t.Errorf("the old holder wrote: %v", err)
	}
	if first, err := s.Once(t.Context(), old.Epoch, sha256.Sum256(nil), time.Now().Add(time.Hour)); first || !errors.Is(err, store.ErrLost) {
		t.Errorf("the old holder used: %v %v", first, err)
	}
	if first, err := s.Once(t.Context(), next.Epoch, sha256.Sum256(nil), time.Now().Add(time.Hour)); !first || err != nil {
		t.Errorf("the new holder: %v %v", first, err)
	}
	if got, _ := read(t, s, 0); !cmp.Equal(got, []string{"received by the holder"}) {
		t.Errorf("%q", got)
	}
}

func lease(t *testing.T, b backend) {
	one, two := b.open(t), b.open(t)
	a1, err := one.Acquire(t.Context(), "a1", time.Now())
	if err != nil || !a1.Live(time.Now()) {
		t.Fatal(a1, err)
	}
	if (store.Lease{}).Live(time.Now()) {
		t.Error("no lease is live")
	}
	a2, err := two.Acquire(t.Context(), "a2", time.Now())
	if !one.Shared() {
		// A file's authority is alone: a restart does not wait.
		if err != nil || a2.Epoch != a1.Epoch+1 || !a2.Live(time.Now().Add(time.Hour)) {
			t.Errorf("%+v %v", a2, err)
		}
		return
	}
	if !errors.Is(err, store.ErrHeld) || !strings.Contains(err.Error(), "a1") {
		t.Fatalf("two holders: %+v %v", a2, err)
	}
	if a1.Live(time.Now().Add(store.Life)) {
		t.Error("for its holder the lease lasts as long as for the database")
	}
	if a1, err = one.Renew(t.Context(), a1, time.Now()); err != nil {
		t.Fatal(err)
	}
	for { // until it has run out
		if a2, err = two.Acquire(t.Context(), "a2", time.Now()); err == nil {
			break
		}
		if !errors.Is(err, store.ErrHeld) {
			t.Fatal(err)
		}
		if a1.Live(time.Now()) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if a1.Live(time.Now()) || a2.Epoch != a1.Epoch+1 {
		t.Errorf("the old holder is still live, or epoch %d after %d", a2.Epoch, a1.Epoch)
	}
	if _, err := one.Renew(t.Context(), a1, time.Now()); !errors.Is(err, store.ErrLost) {
		t.Errorf("the old holder renewed: %v", err)
	}
	if err := one.Release(t.Context(), a1); err != nil { // not its to give
		t.Fatal(err)
	}
	if _, err := one.Acquire(t.Context(), "a1", time.Now()); !errors.Is(err, store.ErrHeld) {
		t.Errorf("an old holder let another's lease go: %v", err)
	}
}

// newer: a release does not touch tables that it does not know.
func newer(t *testing.T, b backend) {
	b.open(t).Close()
	db, err := b.raw()
	if err == nil {
		_, err = db.Exec(`INSERT INTO migration (version) VALUES (1000)`)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.try(); err == nil || !strings.Contains(err.Error(), "version 1000") {
		t.Errorf("a newer database: %v", err)
	}
}

// manyAtOnce: writers from several processes lose nothing and use nothing twice.
func manyAtOnce(t *testing.T, b backend) {
	stores := []*store.Store{b.open(t), b.open(t), b.open(t)}
	var firsts atomic.Int64
	var wg sync.WaitGroup
	for i, s := range stores {
		for j := range 4 {
			wg.Go(func() {
				for k := range 5 {
					if err := s.Append(context.Background(), 0, line(store.Received, fmt.Sprint(i, j, k))); err != nil {
						t.Error(err)
					}
					first, err := s.Once(context.Background(), 0, sha256.Sum256([]byte{byte(k)}), time.Now().Add(time.Hour))
					if err != nil {
						t.Error(err)
					}
					if first {
						firsts.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	if got, last := read(t, stores[0], 0); len(got) != 60 || last != 60 || firsts.Load() != 5 {
		t.Errorf("%d lines, the last is %d, %d first uses of 5", len(got), last, firsts.Load())
	}
}

func TestNoPasswordInTheConfiguration(t *testing.T) {
	for connection, good := range map[string]bool{
		"host=/run/postgresql dbname=reeve":                                           true,
		"postgres://reeve@db.example/reeve?sslmode=verify-full":                       true,
		"host=db.example passfile=/etc/reeve/pgpass dbname=reeve sslmode=verify-full": true,
		"host=db.example password=demo-database-word dbname=reeve":                    false,
		"postgres://reeve:demo-database-word@db.example/reeve":                        false,
		"postgres://db.example/reeve?password=demo-database-word":                     false,
		"host=db.example PASSWORD = demo-database-word":                               false,
		"nonsense": false,
	} {
		if err := (database.Server{Connection: connection}).Check(); (err == nil) != good {
			t.Errorf("%s: %v", connection, err)
		} else if err != nil && strings.Contains(err.Error(), "demo-database-word") {
			t.Errorf("the refusal repeats the password: %v", err)
		}
	}
}

// A copy that is made while a store is open and written to is whole.
func TestCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s, err := store.OpenFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 20 {
		if err := s.Append(t.Context(), 0, line(store.Received, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		b, err := store.Copy(path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "b.db")
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := store.OpenFile(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := read(t, c, 0); len(got) != i+1 {
			t.Fatalf("%d lines of %d", len(got), i+1)
		}
		c.Close()
	}
	if _, err := store.Copy(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a copy of nothing: %v", err)
	}
}
