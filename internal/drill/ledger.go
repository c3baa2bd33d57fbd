package drill

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/verify"
)

// published is how long an entry may take to reach the auditor's verified copy before it counts as not there.
const published = 30 * time.Second

// each goes through the custodian's entries as the auditor verified them.
func (f *field) each(visit func(*entry.Entry)) error {
	return eachEntry(f.dir, func(process string) bool { return process == demo.Processes.Custodian }, visit)
}

// eachEntry goes through the entries of processes of an estate as the auditor verified them.
func eachEntry(d *host.Dir, of func(process string) bool, visit func(*entry.Entry)) error {
	raw, err := os.ReadFile(d.Trust())
	if err != nil {
		return err
	}
	trust, err := verify.ParseTrust(raw)
	if err != nil {
		return err
	}
	all, err := logs.Open(d.Join(host.Auditor), trust)
	if err != nil {
		return err
	}
	for _, l := range all {
		if !of(l.Process) {
			continue
		}
		err := l.Raw(0, func(_ int64, raw []byte) error {
			e, err := entry.Parse(raw)
			if err == nil {
				visit(e)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// find waits for an entry in the custodian's ledger that is it, and returns nil when none comes.
func (f *field) find(ctx context.Context, is func(*entry.Entry) bool) (*entry.Entry, error) {
	return findEntry(ctx, f.each, is)
}

func findEntry(ctx context.Context, each func(func(*entry.Entry)) error, is func(*entry.Entry) bool) (found *entry.Entry, err error) {
	ctx, cancel := context.WithTimeout(ctx, published)
	defer cancel()
	for {
		err := each(func(e *entry.Entry) {
			if found == nil && is(e) {
				found = e
			}
		})
		if err != nil || found != nil || ctx.Err() != nil {
			return found, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// copied waits until the auditor has verified all that the custodian has entered by now.
func (f *field) copied(ctx context.Context) error {
	st, err := f.admin().Status(ctx)
	if err != nil {
		return err
	}
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		var n int64
		if err := f.each(func(*entry.Entry) { n++ }); err != nil || n >= st.Ledger.Size {
			return err
		}
		if time.Since(begun) > published {
			return fmt.Errorf("the auditor has %d of the custodian's %d entries after %s", n, st.Ledger.Size, published)
		}
	}
}
