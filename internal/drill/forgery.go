package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/workload"
)

// forgeries are calls that nobody may make. Each is tried for every credential of every unit.
func (f *field) forgeries(c string, own, other client) []Forgery {
	good := hop.Open{
		Credential: c, Method: "POST", Path: pathOf(c), URL: "http://reeve" + pathOf(c), RequestID: "drill",
		Header: headerOf(c), Body: bodyOf(c),
		Proof: workload.Proof{Kind: "bearer", Value: []byte(own.key)},
	}
	forge := func(name string, change func(*hop.Open)) Forgery {
		o := good
		o.Header = slices.Clone(good.Header)
		change(&o)
		return Forgery{Name: name, Socket: f.dir.Hop(), Open: o, Needles: slices.Concat(f.needles, f.escaped)}
	}
	proof := func(kind, value string) func(*hop.Open) {
		return func(o *hop.Open) { o.Proof = workload.Proof{Kind: kind, Value: []byte(value)} }
	}
	path := func(p string) func(*hop.Open) { return func(o *hop.Open) { o.Path = p } }
	method := func(m string) func(*hop.Open) { return func(o *hop.Open) { o.Method = m } }
	body := func(b string) func(*hop.Open) { return func(o *hop.Open) { o.Body = []byte(b) } }
	all := []Forgery{
		forge("no proof", proof("bearer", "")),
		forge("an invented key", proof("bearer", "rv_"+strings.Repeat("a", len(own.key)-3))),
		forge("a key with one character changed", proof("bearer", flip(own.key))),
		forge("an unknown kind of proof", proof("trusted", own.key)),
		forge("another unit's workload", proof("bearer", other.key)),
		forge("a credential that is not there", func(o *hop.Open) { o.Credential = c + "-x" }),
		forge("no credential", func(o *hop.Open) { o.Credential = "" }),
		forge("a path that issues secrets", path("/v1/organization/admin_api_keys")),
		forge("another provider path", path("/v1/files")),
		forge("a path that climbs", path(pathOf(c)+"/../../v1/files")),
		forge("a path that climbs encoded", path(pathOf(c)+"/%2e%2e/files")),
		forge("a path with a double slash", path("/"+pathOf(c))),
		forge("a path with a parameter", path(pathOf(c)+";x=y")),
		forge("an absolute target", path("https://127.0.0.1:9/v1/chat/completions")),
		forge("a fragment", path(pathOf(c)+"#x")),
		forge("a header that ends early", func(o *hop.Open) {
			o.Header = append(o.Header, hop.Field{Name: "X-A", Value: "b\r\nAuthorization: none"})
		}),
		forge("a model twice", body(`{"model":"demo-small","model":"demo-large"}`)),
		forge("something after the body", body(string(bodyOf(c))+"{}")),
		forge("more tokens than policy permits", body(`{"model":"demo-small","messages":[],"max_tokens":100001}`)),
	}
	for _, m := range []string{"CONNECT", "TRACE", "PUT", "OPTIONS", "post"} {
		all = append(all, forge("method "+m, method(m)))
	}
	return all
}

// s2 is forged calls to the custodian for every business unit, from inside the gateway and from beside it.
func (f *field) s2(ctx context.Context, r *Report, d *doubled) error {
	f.say("S2: both attackers forge calls to the custodian.")
	for name, socket := range map[string]string{"in the gateway": f.inside(), "beside the gateway": f.beside()} {
		s := Line{ID: "S2", Place: "forged calls, " + name}
		tried, refused := 0, map[string]int{}
		for i, own := range f.clients {
			for _, c := range own.credentials {
				for _, forgery := range f.forgeries(c, own, f.clients[1-i]) {
					got, err := order(ctx, socket, Order{Forge: &forgery})
					if err != nil {
						return fmt.Errorf("%s (%s): %w", forgery.Name, c, err)
					}
					tried++
					if got.Answer.Refused == "" && !got.Answer.Broken {
						s.Reeve++
						s.Detail += forgery.Name + " went through; "
					}
					s.Reeve += len(got.Answer.Found)
					refused[got.Answer.how()]++
				}
			}
		}
		s.Detail += fmt.Sprintf("%d tried, refused as %s", tried, counts(refused))
		if name == "in the gateway" {
			spent, err := f.spend(ctx, d)
			if err != nil {
				return err
			}
			s.Double = spent
		}
		r.add(s)
	}
	return nil
}

func flip(key string) string {
	last := key[len(key)-1]
	if last == 'a' {
		return key[:len(key)-1] + "b"
	}
	return key[:len(key)-1] + "a"
}

func counts(m map[string]int) string {
	var all []string
	for k, n := range m {
		all = append(all, fmt.Sprintf("%s %d×", k, n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
