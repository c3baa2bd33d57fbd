package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
)

// subscribers follow the feed, each with a connection, a verified set and records of its own.
type subscribers struct {
	cancel context.CancelFunc
	all    []*feed.Follower
	dir    string
	mu     sync.Mutex
	heard  map[string][]time.Time // by record
}

func subscribe(ctx context.Context, f *fleet, n int) (*subscribers, error) {
	dir := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		dir = "/dev/shm" // their own copies, which each syncs, must not slow the ledgers' disk down
	}
	dir, err := os.MkdirTemp(dir, "reeve-subscribers-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &subscribers{cancel: cancel, dir: dir, heard: map[string][]time.Time{}}
	for i := range n {
		as := fmt.Sprintf("g%d", i%len(f.gateways)+1) // each says that it is one of the gateways
		key, err := ledger.LoadKey(f.at(as, "log.key"))
		if err != nil {
			s.stop()
			return nil, err
		}
		one, err := feed.Follow(ctx, feed.Config{URLs: []string{f.authority}, Dir: filepath.Join(dir, fmt.Sprint(i)), Pin: f.pin, Process: as, Sign: key.Endorse, OnRecord: s.hear, Skew: 30 * time.Second})
		if err != nil {
			s.stop()
			return nil, err
		}
		s.all = append(s.all, one)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		following := 0
		for _, one := range s.all {
			if age := one.Age(); age >= 0 && age < time.Second {
				following++
			}
		}
		if following == n {
			return s, nil
		}
		if time.Now().After(end) {
			s.stop()
			return nil, fmt.Errorf("only %d of %d subscribers follow", following, n)
		}
	}
}

func (s *subscribers) hear(r *statement.Record) error {
	if r.Kind == "revocation" {
		at := time.Now()
		s.mu.Lock()
		s.heard[r.SHA256] = append(s.heard[r.SHA256], at)
		s.mu.Unlock()
	}
	return nil
}

func (s *subscribers) of(record string) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard[record])
}

// trouble is what the first subscriber says that does not follow.
func (s *subscribers) trouble() string {
	for i, one := range s.all {
		if age := one.Age(); age < 0 || age > time.Second {
			return fmt.Sprintf("subscriber %d, without news since %s, says: %s", i, age, one.Status().Err)
		}
	}
	return "all of them follow"
}

func (s *subscribers) stop() {
	s.cancel()
	for _, one := range s.all {
		one.Wait()
	}
	os.RemoveAll(s.dir)
}
