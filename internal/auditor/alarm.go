package auditor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/metrics"
)

// Alarm is something that is, or was, wrong with a log.
type Alarm struct {
	Log        string    `json:"log"` // origin
	Kind       string    `json:"kind"`
	Detail     string    `json:"detail"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	Count      int64     `json:"count"`
	Stands     bool      `json:"stands"`               // false once the log was found right again
	Checkpoint string    `json:"checkpoint,omitempty"` // signed by the log: evidence
}

const (
	maxAlarms = 1000      // remembered; the file has all
	again     = time.Hour // within which the same alarm that was over is the same one still
)

// alarms keeps the alarms. Each new one is a line in its file and in the process's log.
type alarms struct {
	file  string
	log   *slog.Logger
	count *metrics.Counter
	clock func() time.Time

	mu  sync.Mutex // guards what follows
	all []*Alarm   // oldest first
}

func openAlarms(file string, log *slog.Logger, m *metrics.Registry) (*alarms, error) {
	a := &alarms{file: file, log: log, clock: time.Now, count: m.Counter("reeve_auditor_alarms_total", "Alarms raised, repetitions not counted.")}
	m.GaugeFunc("reeve_auditor_alarms_standing", "Alarms that stand.", func() float64 { return float64(a.standing()) })
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the alarms of earlier runs: %w", err)
	}
	for line := range strings.Lines(string(b)) { // the last one may be torn
		old := new(Alarm)
		if json.Unmarshal([]byte(line), old) == nil {
			a.all = append(a.all, old)
		}
	}
	a.trim()
	return a, nil
}

func (a *alarms) trim() { a.all = a.all[max(len(a.all)-maxAlarms, 0):] }

// raise notes a problem. The same one again is only counted.
func (a *alarms) raise(log string, p *problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock().UTC()
	for _, old := range a.all {
		if old.Log == log && old.Kind == p.kind && old.Detail == p.err.Error() && (old.Stands || now.Sub(old.Last) < again) {
			old.Last, old.Stands = now, true
			old.Count++
			return
		}
	}
	alarm := &Alarm{Log: log, Kind: p.kind, Detail: p.err.Error(), First: now, Last: now, Count: 1, Stands: true, Checkpoint: string(p.raw)}
	a.all = append(a.all, alarm)
	a.trim()
	a.count.Inc()
	a.log.Error("alarm", "log", log, "kind", p.kind, "detail", alarm.Detail)
	if err := a.write(alarm); err != nil {
		a.log.Error("the alarm is not on disk", "error", err)
	}
}

func (a *alarms) write(alarm *Alarm) error {
	b, err := json.Marshal(alarm)
	if err != nil {
		return err
	}
	return durable.Append(a.file, b)
}

// settle ends the alarms of a log that was found right. They stay in the list.
func (a *alarms) settle(log string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, old := range a.all {
		if old.Log == log && old.Stands {
			old.Stands = false
			a.log.Info("alarm is over", "log", log, "kind", old.Kind, "detail", old.Detail)
		}
	}
}

func (a *alarms) standing() (n int) {
	for _, al := range a.list() {
		if al.Stands {
			n++
		}
	}
	return n
}

// list copies the alarms, newest first.
func (a *alarms) list() []Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Alarm, 0, len(a.all))
	for _, al := range slices.Backward(a.all) {
		out = append(out, *al)
	}
	return out
}
