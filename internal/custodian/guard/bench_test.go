package guard

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"strings"
	"testing"
)

// body makes n bytes of ordinary answers.
func body(kind string, n int) []byte {
	r := rand.New(rand.NewSource(1))
	words := strings.Fields("the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were " +
		"all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could")
	var b strings.Builder
	for b.Len() < n {
		switch kind {
		case "prose":
			b.WriteString(words[r.Intn(len(words))] + " ")
		case "json":
			fmt.Fprintf(&b, `{"id":"%x","object":"embedding","index":%d,"text":"%s \n%s"},`, r.Int63(), r.Intn(99), words[r.Intn(len(words))], words[r.Intn(len(words))])
		case "base64":
			b.WriteByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[r.Intn(64)])
		case "unicode":
			fmt.Fprintf(&b, `\u%04x`, 0x4e00+r.Intn(5000))
		case "sse":
			fmt.Fprintf(&b, "data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" %s\"},\"finish_reason\":null}]}\n\n", words[r.Intn(len(words))])
		}
	}
	return []byte(b.String()[:n])
}

// key has the shape and length of common provider keys: a prefix of words, then random letters.
func key(prefix string, n int) string {
	r := rand.New(rand.NewSource(2))
	b := []byte(prefix)
	for len(b) < n {
		b = append(b, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[r.Intn(64)])
	}
	return string(b)
}

func BenchmarkStream(b *testing.B) {
	for _, k := range []struct{ name, key string }{{"s51", key("s", 51)}, {"demo164", key("demo-", 164)}, {"eyJ900", key("eyJ", 900)}} {
		p := compiled(b, k.key)
		for _, kind := range []string{"prose", "json", "base64", "unicode"} {
			text := body(kind, 32<<10)
			b.Run(k.name+"/"+kind, func(b *testing.B) {
				s := p.Stream(io.Discard, "application/json")
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					s.Write(text)
				}
			})
		}
	}
}

func BenchmarkEvents(b *testing.B) {
	p := compiled(b, key("s", 51))
	events := bytes.SplitAfter(body("sse", 32<<10), []byte("\n\n"))
	events = events[:len(events)-1]
	s := p.Stream(io.Discard, "text/event-stream")
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.Write(events[i%len(events)])
		i++
	}
	b.SetBytes(int64(len(events[0])))
}

func BenchmarkNew(b *testing.B) {
	k := key("demo-", 164)
	b.ReportAllocs()
	for b.Loop() {
		compiled(b, k)
	}
}
