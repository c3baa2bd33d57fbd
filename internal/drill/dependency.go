package drill

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/workload"
)

// s6 is a malicious dependency: code that came into the gateway's process with a release. It reads everything in it, makes calls of its
// choosing with the proofs that it finds, and tries to get out, to stay, and to get at the custodian.
func (f *field) s6(ctx context.Context, r *Report, d *doubled) error {
	f.say("S6: a dependency of the gateway has turned.")
	w2, err := f.signing()
	if err != nil {
		return err
	}
	if err := w2.greet(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context, *Report, *doubled, *signing) error{f.harvest, f.useHarvest, f.getOut} {
		if err := step(ctx, r, d, w2); err != nil {
			return err
		}
	}
	return nil
}

// harvest reads the process. That the callers' own proofs are in it is no secret of the design, and shows that the search finds what is there.
func (f *field) harvest(ctx context.Context, r *Report, d *doubled, w2 *signing) error {
	if err := f.callThrough(ctx, f.clients, 40); err != nil {
		return err
	}
	proofs := append(loot.Needles("the signer's token", []byte(w2.token)), loot.Needles(f.clients[0].workload, []byte(f.clients[0].key))...)
	t := loot.Target{PIDs: []int{0}, Dirs: []string{f.dir.Join(host.Gateway)}, Needles: append(slices.Clone(f.needles), proofs...)}
	got, err := order(ctx, f.inside(), Order{Search: &t})
	if err != nil {
		return err
	}
	seen, s := 0, Line{ID: "S6", Place: "everything in the process"}
	for _, h := range got.Survey.Hits {
		if slices.ContainsFunc(proofs, func(n loot.Needle) bool { return n.Secret == h.Secret }) {
			seen++
			continue
		}
		s.hit(fmt.Sprintf("%s of %s at %s", h.Form, h.Secret, h.Where))
	}
	if seen == 0 {
		return fmt.Errorf("the callers' own proofs were not found in the gateway either: nothing can be said of its memory")
	}
	s.Detail += fmt.Sprintf("%d bytes searched; callers' proofs found %d times, as the design says", got.Survey.Bytes, seen)
	twin, err := order(ctx, d.inside, Order{Search: &loot.Target{PIDs: []int{0}, Dirs: []string{d.dir}, Needles: f.needles}})
	if err != nil {
		return err
	}
	s.Double = len(twin.Survey.Hits)
	r.add(s)
	return nil
}

// useHarvest makes calls of the code's choosing: with a bearer proof within grants, which is possible and entered, beyond them, and with a
// token whose key it has not.
func (f *field) useHarvest(ctx context.Context, r *Report, d *doubled, w2 *signing) error {
	within, beyond := Line{ID: "S6", Place: "calls with seen keys, within grants"}, Line{ID: "S6", Place: "calls with seen keys, beyond grants"}
	through, refused := 0, map[string]int{}
	for i, own := range f.clients {
		for _, c := range append(slices.Clone(own.credentials), f.clients[1-i].credentials...) {
			forgery := f.forgeries(c, own, own)[0]
			forgery.Open.Proof.Value = []byte(own.key)
			got, err := order(ctx, f.inside(), Order{Forge: &forgery})
			if err != nil {
				return err
			}
			granted := slices.Contains(own.credentials, c)
			switch a := got.Answer; {
			case granted && a.Refused == "" && a.Receipt == "":
				within.hit("a use of " + c + " without an entry")
			case granted && a.Refused == "":
				through++
			case a.Refused == "":
				beyond.hit(own.workload + " with " + c)
			default:
				refused[a.how()]++
			}
		}
	}
	if through == 0 {
		return fmt.Errorf("no call with a seen key went through within its grants: that none did beyond proves nothing")
	}
	within.Detail += fmt.Sprintf("%d went through, each with its entry: bearer proofs, and the design says so", through)
	beyond.Detail += "refused as " + counts(refused)
	spent, err := f.spend(ctx, d)
	if err != nil {
		return err
	}
	beyond.Double = spent
	r.add(within)
	r.add(beyond)

	signed := Line{ID: "S6", Place: "calls with a seen token that is bound to a key"}
	refused = map[string]int{}
	for _, kind := range []string{workload.Pop, workload.Token, "bearer"} {
		for _, c := range w2.credentials {
			forgery := f.forgeries(c, w2.client, w2.client)[0]
			forgery.Open.Proof = workload.Proof{Kind: kind, Value: []byte(w2.token)}
			got, err := order(ctx, f.inside(), Order{Forge: &forgery})
			if err != nil {
				return err
			}
			if refused[got.Answer.how()]++; got.Answer.Refused == "" {
				signed.hit("as " + kind + " with " + c)
			}
		}
	}
	o, err := w2.open(nil)
	if err != nil {
		return err
	}
	o.Body = []byte(strings.Replace(string(o.Body), `"drill"`, `"exfiltrate"`, 1))
	got, err := order(ctx, f.inside(), Order{Forge: &Forgery{Name: "another body", Socket: f.dir.Hop(), Open: o}})
	if err != nil {
		return err
	}
	if refused[got.Answer.how()]++; got.Answer.Refused == "" {
		signed.hit("another body under a seen signature")
	}
	signed.Detail += "refused as " + counts(refused)
	r.add(signed)
	return nil
}

// getOut tries what such code does next. A gateway that is confined reaches the ports that it needs and nothing else.
func (f *field) getOut(ctx context.Context, r *Report, d *doubled, _ *signing) error {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the attacker's host
	if err != nil {
		return err
	}
	defer l.Close()
	out := Reach{
		TCP: []string{l.Addr().String(), host.Local(f.dir.Run.Ports.Upstream)}, Folders: []string{"/tmp", f.dir.Path, f.dir.Bin, f.dir.Join(host.Custodian)},
		Program: "/bin/true", PIDs: []int{f.pids[host.Custodian], f.pids[host.Authority], f.pids[host.Auditor]},
		Sockets: []string{f.dir.Socket(host.Custodian, "admin"), f.dir.Socket(host.Custodian, "ops"), f.dir.Socket(host.Authority, "ops")},
	}
	got, err := order(ctx, f.inside(), Order{Reach: &out})
	if err != nil {
		return err
	}
	twin, err := order(ctx, d.inside, Order{Reach: &Reach{TCP: out.TCP, Folders: append([]string{d.dir}, out.Folders[0]), Program: out.Program}})
	if err != nil {
		return err
	}
	st, err := f.admin().Status(ctx)
	if err != nil {
		return err
	}
	s := Line{ID: "S6", Place: "getting out of the process", Double: len(twin.Reached)}
	for _, x := range got.Reached {
		switch {
		case x.What == "socket" && sameUser(r.Level):
			r.NotHeld = append(r.NotHeld, fmt.Sprintf("at level %s code in the gateway speaks to %s, which shows the state and closes: use separate users (start as root) or another host", r.Level, filepath.Base(filepath.Dir(x.Where))+"/"+filepath.Base(x.Where)))
		case x.What != "socket" && !st.Confinement.Confined():
			r.NotHeld = append(r.NotHeld, fmt.Sprintf("this system does not confine (%s): code in the gateway can %s %s", st.Confinement.Missing, x.What, x.Where))
		default:
			s.hit(x.What + " " + x.Where)
		}
	}
	s.Detail += fmt.Sprintf("%d tried: connect, operators' sockets, write, start, memory", len(out.TCP)+len(out.Sockets)+len(out.Folders)+1+len(out.PIDs))
	s.NotHeld = s.Reeve == 0 && len(got.Reached) > 0
	r.add(s)
	r.NotDone = append(r.NotDone, "S6: what code in the gateway sends out through the answers to clients, and to other hosts at the ports of authority and auditor, is not held back: prompts, answers and callers' bearer tokens can leave that way, keys are not there to leave")
	return nil
}
