package up

import (
	"context"
	"fmt"
	"io"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/host"
)

// Report prints what runs and, for a demo, three commands to paste.
func Report(ctx context.Context, w io.Writer, d *host.Dir) error {
	s := Look(ctx, d)
	fmt.Fprintf(w, "\nreeve is up in %s. Ctrl-C stops it.\n\n", host.Shown(d.Path))
	printTable(w, s)
	if err := s.Check(); err != nil {
		return err
	}
	if !d.Run.Demo {
		return nil
	}
	env, dir := host.Shown(d.Env()), host.Shown(d.Path)
	if env[0] != '/' {
		env = "./" + env
	}
	fmt.Fprintf(w, `
Paste these into another terminal. A call, as any OpenAI client makes it, its receipt kept in a variable:

  . %[1]s; RECEIPT=$(curl -s -D - "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \
    -H 'Content-Type: application/json' -d '{"model":"%[3]s","messages":[{"role":"user","content":"Who holds the key?"}]}' \
    | tee /dev/stderr | tr -d '\r' | sed -n 's/^[Rr]eeve-[Rr]eceipt: //p')

The same, streamed:

  . %[1]s; curl -sN "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \
    -H 'Content-Type: application/json' -d '{"model":"%[3]s","stream":true,"messages":[{"role":"user","content":"Who holds the key?"}]}'

The receipt of the first call, checked against the ledger:

  bin/reeve verify "$RECEIPT" --dir %[2]s
`, env, dir, demo.Model)
	return nil
}
