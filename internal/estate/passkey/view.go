package passkey

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// view is what the page shows and what its script asks the browser for.
type view struct {
	Person string
	Title  string
	Words  []estate.Member
	Effect *estate.Effect
	Files  []change
	Hash   string // hex SHA-256 of the payload, as reeve prints it elsewhere

	Create      bool // make a passkey first
	User        []byte
	Challenge   []byte
	Credentials [][]byte // to sign with; of a new passkey, not to make it on
}

// change is what a file says otherwise than the version before.
type change struct {
	Name  string
	Lines []line
}

func newView(person string, m *estate.Message) *view {
	challenge, hash := statement.Challenge(m.PayloadType, m.Payload), sha256.Sum256(m.Payload)
	v := &view{Person: person, Challenge: challenge[:], Hash: fmt.Sprintf("%x", hash)}
	var man statement.Manifest
	if m.PayloadType == statement.PayloadType && json.Unmarshal(m.Payload, &man) == nil {
		v.Title = fmt.Sprintf("Version %d of %s", man.Version, man.Statement)
		v.Words = []estate.Member{{Name: "estate", Value: man.Estate}, {Name: "statement", Value: man.Statement}, {Name: "version", Value: fmt.Sprint(man.Version)}, {Name: "drafted by", Value: man.Author},
			{Name: "created", Value: man.Created.Format(time.RFC3339)}, {Name: "valid until", Value: man.Expires.Format(time.RFC3339)}}
		v.Files = changes(m.Before, m.Files)
		if m.Effect != nil {
			v.Effect = m.Effect()
		}
		return v
	}
	kind := strings.TrimSuffix(strings.TrimPrefix(m.PayloadType, "application/vnd.reeve."), "+json")
	v.Title = "A " + strings.ReplaceAll(kind, "-", " ")
	v.Words, _ = estate.Members(m.Payload) // what cannot be read is no member of it, and is refused when it is verified
	for i := range v.Words {
		v.Words[i].Value = plain(v.Words[i].Value)
	}
	return v
}

// changes compares the files of two versions.
func changes(before, after map[string][]byte) (list []change) {
	all := maps.Clone(before)
	if all == nil {
		all = map[string][]byte{}
	}
	maps.Copy(all, after)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := change{Name: name, Lines: compare(string(before[name]), string(after[name]))}
		for i := range c.Lines {
			c.Lines[i].Text = plain(c.Lines[i].Text)
		}
		switch {
		case before[name] == nil:
			c.Name += " (new)"
		case after[name] == nil:
			c.Name += " (removed)"
		case string(before[name]) == string(after[name]):
			c.Name += " (unchanged)"
		}
		list = append(list, c)
	}
	return list
}

// line is one line of a comparison: Sign is "+" for one that comes, "-" for one that goes, "…" for a gap, else a space.
type line struct{ Sign, Text string }

const (
	around   = 3       // lines shown beside a change
	maxTable = 4 << 20 // cells of the table that finds what two texts have in common
)

// compare finds the lines that come and go, by the longest common subsequence. Texts that are too long for that are shown whole, the old
// one as going, the new one as coming.
func compare(before, after string) []line {
	a, b := split(before), split(after)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	all := mark(" ", a[:head])
	all = append(all, middle(a[head:len(a)-tail], b[head:len(b)-tail])...)
	return near(append(all, mark(" ", a[len(a)-tail:])...))
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// plain shows what would otherwise not be seen: characters that turn the direction of text, or take no room.
func plain(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\t' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "<U+%04X>", r)
		}
	}
	return b.String()
}

func mark(sign string, texts []string) (list []line) {
	for _, t := range texts {
		list = append(list, line{sign, t})
	}
	return list
}

func middle(a, b []string) (list []line) {
	if len(a)*len(b) > maxTable {
		return append(mark("-", a), mark("+", b)...)
	}
	common := make([][]int, len(a)+1) // of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			list = append(list, line{" ", a[i]})
			i, j = i+1, j+1
		case common[i+1][j] >= common[i][j+1]:
			list = append(list, line{"-", a[i]})
			i++
		default:
			list = append(list, line{"+", b[j]})
			j++
		}
	}
	return append(append(list, mark("-", a[i:])...), mark("+", b[j:])...)
}

// near keeps the lines that are near a change.
func near(all []line) (list []line) {
	last := -1 // index of the last one kept
	for i, l := range all {
		if !slices.ContainsFunc(all[max(0, i-around):min(len(all), i+around+1)], func(l line) bool { return l.Sign != " " }) {
			continue
		}
		if last < i-1 {
			list = append(list, line{"…", ""})
		}
		list, last = append(list, l), i
	}
	if last >= 0 && last < len(all)-1 {
		list = append(list, line{"…", ""})
	}
	return list
}
