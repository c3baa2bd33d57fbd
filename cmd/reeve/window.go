package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// window is the time that a question is about, as the command line says it: RFC 3339, or a duration back from now.
type window struct{ from, to, asOf string }

// add declares the flags. The window begins so long ago unless --from says otherwise.
func (w *window) add(cmd *cobra.Command, back time.Duration) {
	cmd.Flags().StringVar(&w.from, "from", back.String(), "begin of the window: RFC 3339, or a duration back from now")
	cmd.Flags().StringVar(&w.to, "to", "0s", "end of the window, not included: RFC 3339, or a duration back from now")
	w.addAsOf(cmd)
}

// addAsOf declares --as-of alone, for questions about an instant.
func (w *window) addAsOf(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.asOf, "as-of", "0s", "answer with what was recorded by then: RFC 3339, or a duration back from now")
}

// times reads the window. An error is one of usage.
func (w *window) times(now time.Time) (from, to, asOf time.Time, err error) {
	for _, f := range []struct {
		name, text string
		to         *time.Time
	}{{"from", w.from, &from}, {"to", w.to, &to}, {"as-of", w.asOf, &asOf}} {
		if f.text == "" {
			continue
		}
		if *f.to, err = instant(f.text, now); err != nil {
			return from, to, asOf, fmt.Errorf("--%s: %w", f.name, err)
		}
	}
	if !from.Before(to) && w.from != "" {
		return from, to, asOf, fmt.Errorf("the window from %s to %s is empty: --from has to lie before --to", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	return from, to, asOf, nil
}

// past reads --as-of, which is not to come. An error is one of usage.
func (w *window) past(now time.Time) (time.Time, error) {
	at, err := instant(w.asOf, now)
	if err == nil && at.After(now) {
		err = fmt.Errorf("%s is still to come: nothing is recorded by then", at.Format(time.RFC3339))
	}
	if err != nil {
		return at, &exitError{exitUsage, fmt.Errorf("--as-of: %w", err)}
	}
	return at, nil
}

// instant reads RFC 3339, or a duration back from now such as 3h or 90m.
func instant(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-11-23T05:50:00Z nor a duration back from now such as 3h", text)
}
