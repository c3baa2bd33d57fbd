// Package sample makes an invented company's estate with a month of ledgers, in which one gateway was captured for some hours, and says what
// the answers to questions about it are. People try the questions on it, and tests hold the answers against what was planted.
package sample

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// Options are what a month is made from: the same ones make the same month.
type Options struct {
	Seed        int64
	End         time.Time // when the month ends; whole hours
	Credentials int       // at least 2,400; rounded down to what 40 units share alike. 10,000 when zero
	Uses        int       // 100,000 when zero
}

// AnswersFile is beside the estate.
const AnswersFile = "answers.json"

// Write makes the month in dir, which must not exist or be empty: the signed estate, the auditor's verified copies of seven ledgers, and
// answers.json. No process runs, and none is needed for the questions.
func Write(dir string, o Options) (*Answers, error) {
	if o.Credentials == 0 {
		o.Credentials = 10_000
	}
	if o.Uses == 0 {
		o.Uses = 100_000
	}
	if o.Credentials < 2_400 {
		return nil, errors.New("the company needs 2,400 credentials at least")
	}
	names, err := os.ReadDir(dir)
	if len(names) > 0 {
		err = fmt.Errorf("%s is not empty; name another directory", dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	d := &host.Dir{Path: path, State: path, Run: host.Run{Demo: true}}
	for _, name := range []string{"estate", host.Auditor} {
		if err := os.MkdirAll(d.Join(name), 0o700); err != nil {
			return nil, err
		}
	}
	end := o.End.UTC().Truncate(time.Hour)
	m := &month{
		dir: estate.Dir(d.Join("estate")), random: rand.New(rand.NewPCG(uint64(o.Seed), 1)), start: end.Add(-30 * day), end: end,
		journals: map[string]*journal{}, minted: map[*credential]*lease{}, gone: map[string]time.Time{}, hourly: map[string]map[int64]int64{},
	}
	m.from = m.start.Add(20*day + 9*time.Hour + 17*time.Minute)
	m.to = m.from.Add(3 * time.Hour)
	m.reopened = m.to.Add(2 * day)
	m.Answers = &Answers{Seed: o.Seed, Start: m.start, End: end, From: m.from, To: m.to, Captured: Captured, Operations: "olga", Leaving: Leaving, Conflict: TwoHatted, Vendor: Vendor,
		Logs: map[string]int64{}, Used: map[string]*Used{}, Denied: map[string]int64{}, Policy: map[string][]string{}, Lifecycle: map[string]string{},
		All: map[string]int64{}, By: map[string]map[string]int64{}}
	if m.company, err = newCompany(o.Seed, o.Credentials, m.start, end); err != nil {
		return nil, err
	}
	if err := m.live(d, o.Uses); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m.Answers, "", "  ")
	if err != nil {
		return nil, err
	}
	return m.Answers, os.WriteFile(filepath.Join(path, AnswersFile), append(b, '\n'), 0o600)
}

// live has the month happen.
func (m *month) live(d *host.Dir, uses int) error {
	var pin statement.Pin
	if err := m.govern(&pin); err != nil {
		return err
	}
	for _, p := range []string{"g1", "g2", "g3", "c1", "c2", "c3", "a1"} {
		m.journals[p] = m.journal(p)
	}
	m.handOver()
	m.ordinary(uses)
	m.capture()
	m.Outside, m.Unused = m.unit[18].credentials[8].id, m.unit[18].credentials[len(m.unit[18].credentials)-1].id
	if err := errors.Join(m.contain(), m.glass(), m.register(), m.bill(d.Path), m.drill(d.Path)); err != nil {
		return err
	}
	m.conclude()
	if err := m.afterwards(&pin); err != nil {
		return err
	}
	for i, s := range m.sets {
		e := entry.Entry{Type: entry.Publish, Estate: hex.EncodeToString(s.LockHash[:]), Reason: fmt.Sprintf("lock version %d", i+1)}
		m.journals["a1"].add(s.Lock.Created.Add(2*time.Hour), e, nil)
	}
	witness, err := m.witness(m.end)
	if err != nil {
		return err
	}
	dense := [2]time.Time{m.from.Truncate(day).Add(-2 * time.Hour), m.from.Truncate(day).Add(day + 2*time.Hour)} // the day that is asked about
	for p, j := range m.journals {
		n, err := j.write(d.Join(host.Auditor), m.start, m.end, dense, witness)
		if err != nil {
			return fmt.Errorf("writing the ledger of %s: %w", p, err)
		}
		m.Logs[p], m.Entries = n, m.Entries+n
	}
	if err := d.WriteTrust(&m.sets[len(m.sets)-1].Charter); err != nil {
		return err
	}
	return d.Finish(pin)
}
