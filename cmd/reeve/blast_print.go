package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/keyring"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// print is the answer for people: the counts and who has to do what now, then what that is made from, then what cannot be known.
func (f *blastFlags) print(out io.Writer, a *blast.Answer) error {
	terminal.Printf(out, "%s, from %s to %s, as recorded by %s\n\n", a.Subject, a.From.Format(time.RFC3339), a.To.Format(time.RFC3339), a.AsOf.Format(time.RFC3339))
	for _, c := range blast.Classes {
		terminal.Printf(out, "%-14s %d\n", c, a.Counts[c])
	}
	if n := len(a.Units); n > 0 {
		terminal.Printf(out, "\nConcerned: %s (--by unit).\n", counted(n, "business unit"))
	}
	fmt.Fprintln(out)
	err := printTasks(out, a)
	if err == nil {
		err = printKeys(out, a.Keys)
	}
	if err != nil {
		return err
	}
	if f.by == "unit" {
		err = printUnits(out, a)
	} else {
		err = f.printRows(out, a)
	}
	if err != nil {
		return err
	}
	if r := a.Residual; r.Credentials > 0 {
		terminal.Printf(out, "\nStill live of what was read or used: %s, %d of them until revoked", counted(r.Credentials, "credential"), r.Unbounded)
		if r.Credentials > r.Unbounded {
			terminal.Printf(out, ", the others for %d credential-seconds", r.Seconds)
		}
		if a.Counts[blast.Read]+a.Counts[blast.OutOfBand] == 0 {
			fmt.Fprint(out, "; none of their secrets was in it")
		}
		fmt.Fprintln(out, ".")
	}
	if n := a.Residual.Keys; n > 0 {
		terminal.Printf(out, "Still live of what more can be had with: %s, until rotated.\n", counted(n, "key or login"))
	}
	fmt.Fprintln(out)
	for _, l := range a.Logs {
		word := "complete"
		if !l.Complete {
			word = "INCOMPLETE: " + l.Why
		}
		terminal.Printf(out, "ledger of %s: %s\n", l.Process, word)
	}
	for _, s := range a.Cannot {
		terminal.Printf(out, "cannot be known: %s\n", s)
	}
	for _, s := range a.Lacks {
		terminal.Printf(out, "the register lacks: %s\n", s)
	}
	return nil
}

// printRows lists the rows but for those that are excluded, class by class.
func (f *blastFlags) printRows(out io.Writer, a *blast.Answer) error {
	if !slices.ContainsFunc(a.Rows, func(r blast.Row) bool { return r.Class != blast.Excluded }) {
		what := map[bool]string{false: "was read, used or reachable", true: "is still usable"}[f.live]
		terminal.Printf(out, "Nothing %s, as far as is known.\n", what)
		return nil
	}
	t := table.New(out)
	fmt.Fprintln(t, "CLASS\tCREDENTIAL\tUNIT\tUSES\tPROOF\tWORKLOADS\tLAST\tPOLICY\tOPERATIONS\tLIFECYCLE\tAPPROVED BY\tLIVE")
	listed := map[blast.Class]int{}
	for _, r := range a.Rows {
		if listed[r.Class]++; r.Class == blast.Excluded || f.limit > 0 && listed[r.Class] > f.limit {
			continue
		}
		unit, last := r.Unit, ""
		if r.Owning != r.Unit && r.Owning != "" {
			unit += " (of " + r.Owning + ")"
		}
		if !r.Last.IsZero() {
			last = r.Last.Format(time.RFC3339)
		}
		terminal.Printf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Class, r.Credential, unit, r.Uses, proofs(&r), brief(r.Workloads), last, brief(r.Accountable.Policy),
			brief(r.Accountable.Operations), nobody(r.Accountable.Lifecycle), brief(r.Accountable.Approvers), r.Lives())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range blast.Classes {
		if n := listed[c]; c != blast.Excluded && f.limit > 0 && n > f.limit {
			terminal.Printf(out, "%d more are %s (--limit 0 lists all, --by unit counts)\n", n-f.limit, c)
		}
	}
	return nil
}

// printUnits counts the classes of each unit.
func printUnits(out io.Writer, a *blast.Answer) error {
	counts := map[string]map[blast.Class]int{}
	uses := map[string]int64{}
	for _, r := range a.Rows {
		if counts[r.Unit] == nil {
			counts[r.Unit] = map[blast.Class]int{}
		}
		counts[r.Unit][r.Class]++
		uses[r.Unit] += r.Uses
	}
	t := table.New(out)
	fmt.Fprint(t, "UNIT")
	for _, c := range blast.Classes {
		terminal.Printf(t, "\t%s", c)
	}
	fmt.Fprintln(t, "\tUSES")
	for _, u := range sorted(counts) {
		terminal.Printf(t, "%v", nobody(u))
		for _, c := range blast.Classes {
			terminal.Printf(t, "\t%d", counts[u][c])
		}
		terminal.Printf(t, "\t%d\n", uses[u])
	}
	return t.Flush()
}

func sorted[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// proofs are the kinds of proof of a row's uses, with their counts.
func proofs(r *blast.Row) string {
	var list []string
	for _, p := range sorted(r.Proofs) {
		list = append(list, fmt.Sprintf("%s ×%d", p, r.Proofs[p]))
	}
	return strings.Join(list, ", ")
}

// brief is a list of at most three words.
func brief(list []string) string {
	if len(list) > 3 {
		return strings.Join(list[:3], ", ") + fmt.Sprintf(" +%d", len(list)-3)
	}
	return strings.Join(list, ", ")
}

func nobody(id string) string {
	if id == "" {
		return "NOBODY"
	}
	return id
}

// printTasks lists who has to do what now: why and by which command once, then each person.
func printTasks(out io.Writer, a *blast.Answer) error {
	for _, w := range a.Work() {
		terminal.Printf(out, "%s: %s\n", strings.ToUpper(w.Do), w.Why)
		t := table.New(out)
		for _, x := range w.Tasks {
			who := x.Person
			if who == "" {
				who = "NOBODY (" + strings.Join(x.Escalated, ", ") + " name somebody)"
			}
			terminal.Printf(t, "  %s\t%s\t%s\n", who, some(x.What), some(x.Units))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if w.Command != "" {
			terminal.Printf(out, "  $ %s\n", w.Command)
		}
		fmt.Fprintln(out)
	}
	return nil
}

// some is how many there are, and the first of them.
func some(list []string) string {
	if len(list) < 3 {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%d: %s, …", len(list), list[0])
}

// printKeys lists the keys and logins of a captured custodian, and of each kind once what is to be done, by its first.
func printKeys(out io.Writer, keys []keyring.Key) error {
	if len(keys) == 0 {
		return nil
	}
	t := table.New(out)
	fmt.Fprintln(t, "KEY OR LOGIN\tUNIT\tID\tTAKEN\tSTILL LIVE\tFETCHES\tFOR\tWHO ROTATES")
	var first []*keyring.Key
	for i := range keys {
		k := &keys[i]
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", k.Kind, k.Unit, k.ID, had(k), worked(k), k.Fetches, some(k.Credentials), rotating(k))
		if !slices.ContainsFunc(first, func(f *keyring.Key) bool { return f.Kind == k.Kind }) {
			first = append(first, k)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, k := range first {
		terminal.Printf(out, "%s: gets %s. To do: %s.\n", strings.TrimSuffix(string(k.Kind)+" of "+k.Unit, " of "), k.Mints, k.Do)
	}
	fmt.Fprintln(out)
	return nil
}

// had says whether a key can have been taken along.
func had(k *keyring.Key) string {
	if k.Taken {
		return "yes"
	}
	return "no: a helper has it, used at most"
}

// worked says whether a key works.
func worked(k *keyring.Key) string {
	switch {
	case k.Live:
		return "until rotated"
	case !k.Gone.IsZero():
		return "not named since " + k.Gone.UTC().Format(time.RFC3339)
	}
	return "no"
}

// rotating are the people whose signatures another key takes.
func rotating(k *keyring.Key) string {
	if len(k.Rotate) == 0 {
		return "NOBODY: " + strings.Join(k.Escalated, ", ")
	}
	return brief(k.Rotate)
}

// counted is a number with what it counts.
func counted(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case what == "key or login":
		return fmt.Sprintf("%d keys and logins", n)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
