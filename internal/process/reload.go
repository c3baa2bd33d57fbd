package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"
)

// reloading reads the configuration again at each SIGHUP and sends what was accepted. A newer one takes the place of one that
// still waits.
func (app App[C]) reloading(ctx context.Context, path string, running *C, rt *Runtime, level *slog.LevelVar) <-chan *C {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	accepted := make(chan *C, 1)
	go func() {
		defer signal.Stop(hup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
			}
			fresh, err := app.reload(path, running, rt.Log, level)
			if err != nil {
				rt.Reloaded(err)
				continue
			}
			select {
			case <-accepted:
			default:
			}
			accepted <- fresh
		}
	}()
	return accepted
}

func (app App[C]) reload(path string, running *C, log *slog.Logger, level *slog.LevelVar) (*C, error) {
	fresh, err := app.load(path)
	if err != nil {
		return nil, err
	}
	if later, err := app.later(running, fresh); err != nil {
		return nil, err
	} else if len(later) > 0 {
		log.Warn("these parts of the configuration take effect at the next start", "parts", strings.Join(later, ", "))
	}
	return fresh, app.setLevel(level, fresh)
}

// later lists the top-level members that were changed and do not take effect while the process runs.
func (app App[C]) later(running, fresh *C) (names []string, err error) {
	members := func(c *C) (m map[string]any, err error) {
		b, err := yaml.Marshal(c)
		if err != nil {
			return nil, err
		}
		return m, yaml.Unmarshal(b, &m)
	}
	old, err := members(running)
	if err != nil {
		return nil, err
	}
	now, err := members(fresh)
	if err != nil {
		return nil, err
	}
	for name := range now {
		if !slices.Contains(app.Live, name) && !reflect.DeepEqual(old[name], now[name]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// setLevel takes debug, info, warn or error; empty is info.
func (app App[C]) setLevel(level *slog.LevelVar, c *C) error {
	if app.LogLevel == nil {
		return nil
	}
	var l slog.Level
	if text := app.LogLevel(c); text != "" {
		if err := l.UnmarshalText([]byte(text)); err != nil || strings.ContainsAny(text, "+-") {
			return errors.Join(fmt.Errorf("log_level is %q; it can be debug, info, warn or error", text), err)
		}
	}
	level.Set(l)
	return nil
}

// Reloaded says how a reload ended: what could not be taken leaves everything as it was.
func (rt *Runtime) Reloaded(err error) {
	if err == nil {
		rt.Ready.Note("configuration", "")
		rt.Log.Info("reloaded")
		return
	}
	if rt.refused != nil {
		rt.refused.Inc()
	}
	rt.Ready.Note("configuration", "the newest was refused, the one before stays: "+err.Error())
	rt.Log.Error("the configuration is refused, the one before stays", "error", err)
}
