package feed

import (
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/statement"
)

// The vector of docs/formats/feed.md, which a separate implementation computed.
func TestAskVector(t *testing.T) {
	const (
		key      = "reeve/demo/c1+3baf8be9+AYqHX/8es4RRV3rNWv7kBUVlaN18ieCQhjoFV7x69J8X"
		envelope = `{"payload":"eyJjaGFsbGVuZ2UiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R4QVJFaE1VRlJZWCIsImVzdGF0ZSI6ImRlbW8iLCJsb2NrIjoiYWNhYzg2YzBlNjA5Y2E5MDZmNjMyYjBlMmRhY2NjYjJiNzdkMjJiMDYyMWYyMGViZWNlMWE0ODM1YjkzZjZmMCIsIm5vbmNlIjoiQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoiLCJwcm9jZXNzIjoiYzEiLCJyZWNvcmRzIjoiZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NSIsInRpbWUiOiIyMDI2LTAxLTAyVDAzOjA0OjA1WiJ9","payloadType":"application/vnd.reeve.follow+json","signatures":[{"keyid":"reeve/demo/c1+3baf8be9","sig":"S2ye30Yx2oInfxhEj9mDihzxbeWoAjJKcghiBlegANB0IHTTlPyUNg/1k5NtLmGj0NHHFFXm6c0mVF2ovE3qCw=="}]}`
	)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	set := &statement.Set{Charter: statement.Charter{Estate: "demo", ServiceKeys: []statement.ServiceKey{
		{Use: "log", Process: "c1", Key: key, NotBefore: at.Add(-time.Hour), NotAfter: at.Add(time.Hour)},
	}}}
	header := base64.StdEncoding.EncodeToString([]byte(envelope))
	ask, by, err := OpenAsk(header, set, at.Add(AskLife))
	if err != nil || by.Key != key {
		t.Fatal(by, err)
	}
	want := &Ask{Challenge: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", Estate: "demo", Lock: "acac86c0e609ca906f632b0e2dacccb2b77d22b0621f20ebece1a4835b93f6f0", Nonce: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Process: "c1",
		Records: (&Records{}).Sum(), Time: at}
	if diff := cmp.Diff(want, ask); diff != "" {
		t.Error(diff)
	}
	for _, late := range []time.Duration{AskLife + time.Second, -AskLife - time.Second} {
		if _, _, err := OpenAsk(header, set, at.Add(late)); !errors.Is(err, ErrAsk) {
			t.Errorf("%s later: %v", late, err)
		}
	}
	set.Charter.ServiceKeys[0].Use = "feed"
	if _, _, err := OpenAsk(header, set, at); !errors.Is(err, ErrAsk) {
		t.Error("a key of another use:", err)
	}
}

func FuzzOpenAsk(f *testing.F) {
	f.Add("e30=")
	f.Add(base64.StdEncoding.EncodeToString([]byte(`{"payload":"e30=","payloadType":"application/vnd.reeve.follow+json","signatures":[]}`)))
	set := &statement.Set{Charter: statement.Charter{Estate: "demo"}}
	f.Fuzz(func(t *testing.T, header string) {
		if _, _, err := OpenAsk(header, set, time.Now()); err == nil {
			t.Error("a request that no key signed was taken")
		}
	})
}
