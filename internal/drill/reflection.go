package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/hop"
)

// s4 is an upstream that reflects the credential, in every place and every encoding, and sources of secrets that are an attacker's.
func (f *field) s4(ctx context.Context, r *Report, d *doubled) error {
	if err := f.s4reflects(ctx, r, d); err != nil {
		return err
	}
	return f.s4sources(ctx, r, d)
}

func (f *field) s4reflects(ctx context.Context, r *Report, d *doubled) error {
	f.say("S4: the upstream reflects the credential in every form.")
	places := map[string]*Line{}
	var sorted []string
	for _, form := range reflections() {
		place, _, _ := strings.Cut(form, ",")
		s := places[place]
		if s == nil {
			s = &Line{ID: "S4", Place: "reflected in " + place}
			places[place] = s
			sorted = append(sorted, place)
		}
		for _, own := range f.clients {
			for _, c := range own.credentials {
				if err := f.reflect(ctx, s, d, own, c, form); err != nil {
					return fmt.Errorf("%s of %s: %w", form, c, err)
				}
			}
		}
	}
	for _, place := range sorted {
		r.add(*places[place])
	}
	got, err := f.searchAgain(ctx)
	if err != nil {
		return err
	}
	r.add(Line{ID: "S4", Place: "the gateway's memory afterwards", Reeve: got.Count("memory"), Detail: fmt.Sprintf("%d bytes searched", got.Bytes)})
	return nil
}

func (f *field) searchAgain(ctx context.Context) (*loot.Survey, error) {
	got, err := order(ctx, f.inside(), Order{Search: &loot.Target{PIDs: []int{0}, Needles: f.needles}})
	return got.Survey, err
}

// reflect makes one call whose answer holds the key, through reeve's hop and through the double.
func (f *field) reflect(ctx context.Context, s *Line, d *doubled, own client, c, form string) error {
	forgery := f.forgeries(c, own, own)[0]
	forgery.Open.Proof.Value = []byte(own.key)
	forgery.Open.Header = append(forgery.Open.Header, hop.Field{Name: "X-Demo-Reflect", Value: form})
	if strings.HasPrefix(form, "sse") {
		forgery.Open.Body = streamed(forgery.Open.Body)
	}
	got, err := order(ctx, f.inside(), Order{Forge: &forgery})
	if err != nil {
		return err
	}
	if n := len(got.Answer.Found); n > 0 {
		s.Reeve += n
		s.Detail += fmt.Sprintf("%s of %s came through; ", form, c)
	}
	found, err := d.call(ctx, own, c, &forgery)
	s.Double += found
	return err
}

// reflections are the demo upstream's forms: every place with the raw key, every encoding in the body and a character at a time,
// every content coding.
func reflections() []string {
	var all []string
	for _, place := range []string{"body", "header", "header-name", "trailer", "location", "error", "sse", "sse-delta", "ndjson", "onebyte"} {
		all = append(all, place+",raw")
	}
	for _, encoding := range []string{"base64", "base64-1", "base64-2", "base64url", "base64-wrapped", "hex", "hex-upper", "url", "json", "html", "html-hex"} {
		all = append(all, "body,"+encoding, "onebyte,"+encoding, "sse-delta,"+encoding, "ndjson,"+encoding, "header,"+encoding)
	}
	for _, coding := range []string{"gzip", "deflate", "deflate-raw", "br"} {
		all = append(all, "body,raw,"+coding)
	}
	return all
}

// reflected forms must be the upstream's own words: a typing error would make S4 pass by asking for nothing.
func checkReflections() error {
	known := upstream.Forms()
	for _, form := range reflections() {
		for _, word := range strings.Split(form, ",") {
			if !slices.Contains(known, word) {
				return fmt.Errorf("the demo upstream knows no reflection %q", word)
			}
		}
	}
	return nil
}
