package drill

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/host"
)

// play goes through the chosen scenarios.
func (f *field) play(ctx context.Context, r *Report) error {
	if err := f.findClients(); err != nil {
		return err
	}
	if _, err := os.Stat(f.dir.Join(host.Custodian, identity)); err != nil {
		return fmt.Errorf("the drill does not know where the custodian's identity lies: %w", err)
	}
	f.say("Making %d calls through reeve.", f.Calls)
	if err := f.callThrough(ctx, f.clients, f.Calls); err != nil {
		return err
	}
	var err error
	if r.Level, err = f.level(ctx); err != nil {
		return err
	}
	f.say("Making %d calls through the double.", f.Calls)
	d, err := f.startDouble(ctx)
	if err != nil {
		return err
	}
	defer d.stop()
	if err := f.callThrough(ctx, d.clients, f.Calls); err != nil {
		return err
	}
	bare, err := f.startBare(ctx)
	if err != nil {
		return err
	}
	defer bare.stop()
	for _, c := range f.chosen {
		begun := time.Now()
		if err := c.play(f, ctx, r, d); err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		r.end(c.Scenario, time.Since(begun))
	}
	r.sort()
	return nil
}

func readEnv(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	vars := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "="); ok {
			vars[name] = value
		}
	}
	return vars, nil
}
