package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
)

// calls counts the calls of a fetch by a new source, and returns what the double answered.
func calls(h *Harness, d ledger.Durable) (answers []answer, err error) {
	w := newWorld(h, d)
	s, err := w.source()
	if err == nil {
		_, err = w.fetch(s)
	}
	answers = w.answered()
	if err == nil && len(answers) == 0 {
		err = errors.New("a fetch made no call at the double")
	}
	return answers, w.end(err)
}

// failing lets each call of a fetch fail in every way.
func failing(h *Harness, d ledger.Durable) error {
	answers, err := calls(h, d)
	if err != nil {
		return err
	}
	var all []error
	for from := range answers {
		list := failures()
		if from == len(answers)-1 {
			for i, body := range h.Malformed {
				list = append(list, instead(fmt.Sprintf("Malformed[%d]", i), "application/json", body))
			}
		}
		for _, f := range list {
			if err := fails(h, d, from, f); err != nil {
				all = append(all, fmt.Errorf("call %d, %s: %w", from+1, f.name, err))
			}
		}
	}
	return errors.Join(all...)
}

func fails(h *Harness, d ledger.Durable, from int, f *failure) error {
	w := newWorld(h, d)
	s, err := w.source()
	if err != nil {
		return w.end(err)
	}
	w.fail(from, f)
	got, err := w.fetch(s)
	switch {
	case f.want == nil && err != nil:
		return w.end(fmt.Errorf("it should do: %w", err))
	case f.want == nil:
		return w.end(sane(got, time.Now()))
	case !errors.Is(err, f.want):
		return w.end(fmt.Errorf("%v; want one that wraps: %w", err, f.want))
	}
	return w.end(typed(err))
}

// typed refuses an error that means two things.
func typed(err error) error {
	var is []error
	for _, sentinel := range []error{source.ErrDown, source.ErrRefused, source.ErrMalformed, source.ErrNoRoot, source.ErrNotDurable, source.ErrCannotRevoke} {
		if errors.Is(err, sentinel) {
			is = append(is, sentinel)
		}
	}
	if len(is) != 1 {
		return fmt.Errorf("%v: wraps %d of the errors of source, want one: %v", err, len(is), is)
	}
	return nil
}

// changed changes one member after another of each answer: what comes of it is a whole secret or a refusal.
func changed(h *Harness, d ledger.Durable) error {
	answers, err := calls(h, d)
	if err != nil {
		return err
	}
	var all []error
	for i, a := range answers {
		for _, m := range mutations(a.body) {
			f := &failure{spoil: func(w http.ResponseWriter, a answer) { a.write(w, m.body) }}
			if err := survives(h, d, i, f); err != nil {
				all = append(all, fmt.Errorf("answer %d with %s: %w", i+1, m.name, err))
			}
		}
	}
	return errors.Join(all...)
}

func survives(h *Harness, d ledger.Durable, at int, f *failure) error {
	w := newWorld(h, d)
	s, err := w.source()
	if err != nil {
		return w.end(err)
	}
	w.failOnce(at, f)
	begun := time.Now()
	got, err := w.fetch(s)
	switch {
	case err == nil:
		return w.end(sane(got, begun))
	case errors.Is(err, source.ErrMalformed), errors.Is(err, source.ErrRefused) && len(w.answered()) > at+1: // the double refused what came next
		return w.end(nil)
	}
	return w.end(fmt.Errorf("%w; want a whole secret or ErrMalformed", err))
}

func endsWithContext(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	reached := w.hang()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-reached:
		case <-w.ended:
		}
		cancel()
	}()
	_, err = w.fetchFor(ctx, s, w.durable, "research-agent")
	if !errors.Is(err, source.ErrDown) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the provider hangs and the context ends: %v, want ErrDown or the context's", err)
	}
	before := w.count()
	if _, err = w.fetchFor(ctx, s, w.durable, "research-agent"); err == nil {
		return errors.New("a fetch with an ended context")
	}
	if n := w.count(); n != before {
		return errors.New("a call was made with an ended context")
	}
	return nil
}

func closeEnds(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	reached := w.hang()
	go func() {
		select {
		case <-reached:
		case <-w.ended:
		}
		s.Close()
	}()
	if _, err := w.fetch(s); err == nil {
		return errors.New("a fetch that was closed came back with a secret")
	}
	before := w.count()
	s.Close()
	if _, err := w.fetch(s); err == nil {
		return errors.New("a fetch after Close")
	}
	if n := w.count(); n != before {
		return errors.New("a call was made after Close")
	}
	return nil
}

func nobodyListens(w *world) error {
	w.server.Listener.Close()
	s, err := w.source()
	if err != nil {
		return err
	}
	if _, err := w.fetch(s); !errors.Is(err, source.ErrDown) {
		return fmt.Errorf("nobody listens: %v, want ErrDown", err)
	}
	return nil
}

func privateAddress(w *world) error {
	w.record.From.Networks = nil
	s, err := w.source()
	if err != nil {
		return err
	}
	if _, err := w.fetch(s); err == nil {
		return errors.New("its host leads to a private address, and it fetched from there")
	}
	if n := w.count(); n != 0 {
		return fmt.Errorf("its host leads to a private address, and %d calls went there", n)
	}
	return nil
}
