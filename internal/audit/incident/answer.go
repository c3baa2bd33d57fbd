package incident

import (
	"fmt"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/audit/blast"
)

// unproven lists what cannot be known.
func (m *maker) unproven() {
	say := func(s string) {
		if !slices.Contains(m.Unproven, s) {
			m.Unproven = append(m.Unproven, s)
		}
	}
	for _, a := range m.Blast {
		for _, s := range a.Cannot {
			say(s)
		}
		for _, s := range a.Lacks {
			say("The register lacks: " + s)
		}
	}
	for _, r := range m.rows() {
		if slices.Contains(r.Classes, blast.OutOfBand) {
			say(fmt.Sprintf("%s was used outside reeve: %s", r.Credential, r.Why))
		}
		if r.Unknown > 0 {
			say(fmt.Sprintf("%d uses of %s by %s have no outcome in the ledger: they count as used", r.Unknown, r.Credential, r.Unit))
		}
	}
	for _, o := range m.Containment.Outcomes {
		for _, d := range o.Unproven {
			say(fmt.Sprintf("%s at %s is not proven dead: %s", d.Credential, d.Custodian, d.Why))
		}
		for _, w := range o.Waiting {
			say(fmt.Sprintf("%s waits for a signature: %s", w.Target, w.Needs))
		}
	}
	if m.Misuse.Uses > 0 {
		say("Which of the uses that no signature proves in the window the attacker made and which the workloads: all of them count as misuse.")
	}
}

// answer says the outcome in sentences.
func (m *maker) answer() {
	say := func(format string, args ...any) { m.Answer = append(m.Answer, fmt.Sprintf(format, args...)) }
	names := strings.Join(m.in.Journal.Opened().Subjects, " and ")
	if m.Read == 0 {
		say("No credential's plaintext was in %s: READ = 0.", names)
	} else {
		say("The plaintext of %d credentials was in %s: READ = %d. Each has to be ended at its provider.", m.Read, names, m.Read)
	}
	day := "2006-01-02 15:04:05.000Z"
	if x := &m.Misuse; x.Uses > 0 {
		say("%s could have been the attacker's, from %s to %s, of %s of %s.", many(x.Uses, "use"), x.First.Format(day), x.Last.Format("15:04:05.000Z"),
			many(int64(len(x.Credentials)), "credential"), many(int64(len(x.Units)), "business unit"))
	} else {
		say("Nothing was used by a proof that an attacker can have had: no window of misuse.")
	}
	if x := &m.Misuse; x.Denied > 0 {
		say("%s refused, from %s to %s.", many(x.Denied, "attempt"), x.FirstDenied.Format(day), x.LastDenied.Format("15:04:05.000Z"))
	}
	if m.Misuse.Proven > 0 {
		say("%s in the window by the workloads' own signatures cannot be the attacker's.", many(m.Misuse.Proven, "use"))
	}
	c := &m.Containment
	held := func(from int, word string) {
		for _, h := range c.Held[from:] {
			say("It %s contained from %s until %s, when %s opened the %s again at %s (entry %d of log %s).", word, h.From.Format(day), h.Until.Format(day),
				strings.Join(h.By, " and "), h.Target, h.Custodian, h.Entry.Seq, h.Entry.Log)
		}
	}
	switch {
	case !m.Contained && len(c.Held) > 0:
		held(0, "was")
		say("That took %s from when it was opened or acted upon; %s followed while it was closed. What was opened is not closed any more.", span(c.Contain), many(c.AfterUses, "use"))
	case m.Contained:
		held(0, "had been")
		say("It is contained since %s, %s after it was opened or acted upon; %s followed.", m.Containment.Contained.Format(day), span(m.Containment.Contain), many(m.Containment.AfterUses, "use"))
	case len(c.Outcomes) == 0:
		say("Nothing has been contained for it.")
	default:
		say("It is NOT contained.")
	}
	if !m.Complete {
		say("The ledgers do not cover the whole window: what is not listed is not excluded.")
	}
}

// many counts something in words.
func many(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
