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
		envelope = `{"payload":"eyJlc3RhdGUiOiJkZW1vIiwibG9jayI6ImFjYWM4NmMwZTYwOWNhOTA2ZjYzMmIwZTJkYWNjY2IyYjc3ZDIyYjA2MjFmMjBlYmVjZTFhNDgzNWI5M2Y2ZjAiLCJub25jZSI6IkFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaIiwicHJvY2VzcyI6ImMxIiwicmVjb3JkcyI6ImUzYjBjNDQyOThmYzFjMTQ5YWZiZjRjODk5NmZiOTI0MjdhZTQxZTQ2NDliOTM0Y2E0OTU5OTFiNzg1MmI4NTUiLCJ0aW1lIjoiMjAyNi0wMS0wMlQwMzowNDowNVoifQ==","payloadType":"application/vnd.reeve.follow+json","signatures":[{"keyid":"reeve/demo/c1+3baf8be9","sig":"72BQtuzBVR8QhLbH0sGmV/aI+3g0TtaTNlo5gRAAZFW1OZpnP9ywHJ9cW+3fuk4xZ9WB0GKTOmPK43+5XcnVBQ=="}]}`
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
	want := &Ask{Estate: "demo", Lock: "acac86c0e609ca906f632b0e2dacccb2b77d22b0621f20ebece1a4835b93f6f0", Nonce: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Process: "c1",
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
