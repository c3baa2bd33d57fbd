package up

import (
	"context"
	"fmt"
	"io"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/terminal"
)

// Report prints what runs and, for a demo, three commands to paste.
func Report(ctx context.Context, w io.Writer, d *host.Dir) error {
	s := Look(ctx, d)
	terminal.Printf(w, "\nreeve is up in %s. Ctrl-C stops it.\n\n", host.Shown(d.Path))
	if err := s.print(w); err != nil || !d.Run.Demo {
		return err
	}
	dir := host.Shown(d.Path)
	if dir[0] != '/' {
		dir = "./" + dir
	}
	call := func(words ...any) terminal.Lines {
		return terminal.Lines(fmt.Sprintf(`curl -s %s "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \
    -H 'Content-Type: application/json' \
    -d '{"model":"%s",%s"messages":[{"role":"user","content":"Who holds the key?"}]}'`, words...))
	}
	terminal.Printf(w, `
Paste these into another terminal, in this folder. A call, as any OpenAI client makes it; its head goes to a file:

  . %[1]s/env
  %[2]s

The same, streamed:

  %[3]s

The receipt of the first call, checked against the ledger:

  bin/reeve verify --dir %[1]s "$(sed -n 's/^Reeve-Receipt: //p' %[1]s/head | tr -d '\r')"
`, dir, call("-D "+dir+"/head", demo.Model, ""), call("-N", demo.Model, `"stream":true,`))
	return nil
}
