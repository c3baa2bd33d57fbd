package boundary

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata/custodian.deps")

// law is the direction of dependencies: cmd → one domain → core.
func law() []Rule {
	domains := []string{"internal/custodian", "internal/gateway", "internal/authority", "internal/auditor"}
	core := []string{
		"entry", "verify", "internal/secret", "internal/statement", "internal/policy", "internal/workload", "internal/ledger",
		"internal/hop", "internal/pop", "internal/feed", "internal/witness", "internal/scan", "internal/metrics", "internal/confine", "internal/process",
		"internal/seal", "internal/custody", "internal/admin", "internal/closing", "internal/relay", "internal/durable", "internal/serve", "internal/lend", "internal/garbage",
		"internal/database",
	}
	var rules []Rule
	for _, from := range domains {
		for _, to := range domains {
			if from != to {
				rules = append(rules, Rule{From: from, To: to, Why: "domains never import one another"})
			}
		}
		rules = append(rules,
			Rule{From: from, To: "internal/estate", Why: "only people sign, with the command line"},
			Rule{From: from, To: "internal/federation", Why: "only people make federation keys, with the command line"},
			Rule{From: from, To: "internal/demo", Why: "demonstrations stay outside the processes"})
	}
	for _, from := range core {
		for _, to := range append(slices.Clone(domains), "internal/estate", "internal/demo", "internal/drill") {
			rules = append(rules, Rule{From: from, To: to, Why: "the core imports no domain"})
		}
	}
	for _, to := range append(slices.Clone(domains), "cmd", "internal/demo", "internal/drill") {
		rules = append(rules, Rule{From: "internal/audit", To: to, Why: "questions are answered from the books, by whoever has them"})
	}
	parts, _ := filepath.Glob(filepath.Join("..", "audit", "*"))
	for _, part := range parts {
		if name := filepath.Base(part); name != "index" && name != "logs" {
			rules = append(rules, Rule{From: "internal/auditor", To: "internal/audit/" + name, Why: "the auditor keeps copies and the index over them, and answers no question"})
		}
	}
	for _, from := range []string{"cmd/reeve", "cmd/reeve-gateway", "cmd/reeve-authority", "cmd/reeve-auditor", "internal/demo", "internal/estate", "internal/drill"} {
		rules = append(rules, Rule{From: from, To: "internal/custodian", Why: "only the custodian's own process can hold a downstream secret"})
	}
	for _, from := range []string{"cmd/reeve-gateway", "cmd/reeve-custodian", "cmd/reeve-authority", "cmd/reeve-auditor"} {
		for _, to := range []string{"internal/sidecar", "github.com/spiffe/go-spiffe", "google.golang.org/grpc"} {
			rules = append(rules, Rule{From: from, To: to, Why: "the workload's side, and what it brings, stays out of the processes"})
		}
	}
	for _, from := range []string{"entry", "internal/secret", "internal/metrics", "internal/scan", "internal/pop", "internal/durable", "internal/lend", "internal/garbage"} {
		rules = append(rules, Rule{From: from, To: ".", Why: "this package stays on the standard library and x/sys"})
	}
	return rules
}

// allowedOutside are modules of others that a rule To "." does not mean.
var allowedOutside = []string{"golang.org/x/sys"}

func read(t *testing.T) Graph {
	g, err := Read(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for pkg, imports := range g {
		g[pkg] = slices.DeleteFunc(imports, func(p string) bool {
			return slices.ContainsFunc(allowedOutside, func(m string) bool { return under(p, m) })
		})
	}
	return g
}

func TestImportLaw(t *testing.T) {
	for _, b := range read(t).Breaks(law()) {
		t.Error(b)
	}
}

// The law must turn red: each planted import breaks it, transitively too.
func TestImportLawIsSeenRed(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"internal/gateway/openai", "internal/custodian/guard", []string{"internal/gateway/openai", "internal/custodian/guard"}},
		{"internal/hop", "internal/auditor", []string{"internal/gateway", "internal/hop", "internal/auditor"}},
		{"cmd/reeve-authority", "internal/custodian", []string{"cmd/reeve-authority", "internal/custodian"}},
		{"entry", "github.com/evil/logger", []string{"entry", "github.com/evil/logger"}},
		{"cmd/reeve-custodian", "google.golang.org/grpc/codes", []string{"cmd/reeve-custodian", "google.golang.org/grpc/codes"}},
		{"internal/audit/index", "internal/auditor", []string{"internal/audit/index", "internal/auditor"}},
		{"internal/audit/blast", "cmd/reeve", []string{"internal/audit/blast", "cmd/reeve"}},
		{"internal/auditor", "internal/audit/blast", []string{"internal/auditor", "internal/audit/blast"}},
		{"internal/audit/logs", "internal/audit/books", []string{"internal/auditor", "internal/audit/logs", "internal/audit/books"}},
		{"internal/ledger", "internal/estate", []string{"internal/custodian", "internal/ledger", "internal/estate"}},
	} {
		g := Graph{
			"internal/gateway":   {"internal/hop"},
			"internal/custodian": {"internal/ledger", "internal/hop"},
			"internal/auditor":   {"internal/audit/logs"},
		}
		if got := g.Breaks(law()); len(got) != 0 {
			t.Fatalf("the clean graph breaks: %v", got)
		}
		g[c.from] = append(g[c.from], c.to)
		found := slices.ContainsFunc(g.Breaks(law()), func(b Break) bool { return cmp.Equal(b.Chain, c.want) })
		if !found {
			t.Errorf("%s → %s: no chain %v in %v", c.from, c.to, c.want, g.Breaks(law()))
		}
	}
}

// The custodian's dependencies are a file that a person reads in review.
func TestCustodianDependencies(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/reeve-custodian")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	got := []byte(strings.Join(lines, "\n") + "\n")
	golden := filepath.Join("testdata", "custodian.deps")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the custodian's dependencies changed; read the difference, justify it in docs/dependencies.md, then run\n"+
			"go test ./internal/boundary -run Dependencies -update\n%s", cmp.Diff(string(want), string(got)))
	}
}

// The custodian's direct modules are the ones that docs/dependencies.md justifies.
func TestCustodianModules(t *testing.T) {
	permitted := []string{
		"filippo.io/age", "github.com/cedar-policy/cedar-go", "golang.org/x/sys", "golang.org/x/mod",
		"github.com/landlock-lsm/go-landlock", "github.com/elastic/go-seccomp-bpf", "github.com/goccy/go-yaml", "github.com/go-jose/go-jose",
	}
	g, err := Read(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var walk func(pkg string)
	walk = func(pkg string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		for _, p := range g[pkg] {
			if under(p, ".") && !slices.ContainsFunc(permitted, func(m string) bool { return under(p, m) }) {
				t.Errorf("%s imports %s, a module that the custodian may not have", pkg, p)
			}
			walk(p)
		}
	}
	walk("cmd/reeve-custodian")
}

// The trusted core stays small enough to be read: lines of code without tests and comments, of every package of ours that the
// custodian links.
func TestCoreStaysSmall(t *testing.T) {
	budget := map[string]int{
		"cmd/reeve-custodian":          8,
		"entry":                        646,
		"internal/admin":               185,
		"internal/closing":             180,
		"internal/confine":             234,
		"internal/custody":             776,  // 0365
		"internal/custodian":           2214, // 0387
		"internal/custodian/ceiling":   255,
		"internal/custodian/closed":    152,
		"internal/custodian/daemon":    982,
		"internal/custodian/egress":    879, // 0381
		"internal/custodian/glass":     116,
		"internal/custodian/guard":     866,
		"internal/custodian/isolation": 93,
		"internal/custodian/lifecycle": 1461,
		"internal/custodian/pin":       630,
		"internal/replay":              92,
		"internal/custodian/sealed":    482,
		"internal/custodian/sigv4":     157,
		"internal/custodian/source":    272,
		"internal/custodian/unitkey":   385,
		"internal/custodian/state":     88,
		"internal/workload/issuer":     242,
		"internal/netguard":            125,
		"internal/durable":             72,
		"internal/feed":                1324,
		"internal/garbage":             25,
		"internal/hop":                 1489, // 0379
		"internal/lend":                32,   // 0379
		"internal/ledger":              2791, // 0321
		"internal/metrics":             175,
		"internal/policy":              470,
		"internal/pop":                 562,
		"internal/process":             525,
		"internal/terminal":            95,
		"internal/relay":               66,
		"internal/scan":                395,
		"internal/seal":                82,
		"internal/secret":              58,
		"internal/statement":           4028, // 0350, 0330, 0336, 0325
		"internal/witness":             172,
		"internal/workload":            855, // 0365
		"internal/workload/jwks":       122,
	}
	deps, err := os.ReadFile(filepath.Join("testdata", "custodian.deps"))
	if err != nil {
		t.Fatal(err)
	}
	total, sources := 0, 0
	for _, dep := range strings.Fields(string(deps)) {
		pkg, ours := strings.CutPrefix(dep, Module+"/")
		if !ours {
			continue
		}
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pkg), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			lines += codeLines(b)
		}
		most, ok := budget[pkg]
		if strings.HasPrefix(pkg, "internal/custodian/source/") { // each is for one kind of provider, and read by who uses that
			most, ok = 400, true
			sources += lines
		} else {
			total += lines
		}
		t.Logf("%-28s %5d of %d lines of code", pkg, lines, most)
		if !ok {
			t.Errorf("the custodian links %s, which has no budget", pkg)
		} else if lines > most {
			t.Errorf("%s has %d lines of code, more than %d: take something out, or raise the budget with a decision note", pkg, lines, most)
		}
		delete(budget, pkg)
	}
	for pkg := range budget {
		t.Errorf("the custodian does not link %s: take its budget away", pkg)
	}
	t.Logf("%-28s %5d", "all but sources", total)
	t.Logf("%-28s %5d", "sources", sources)
}

// codeLines counts lines that are neither blank nor only a comment.
func codeLines(b []byte) int {
	n := 0
	for _, line := range bytes.Split(b, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && !bytes.HasPrefix(line, []byte("//")) {
			n++
		}
	}
	return n
}

// What providers verify federated tokens with is published by its owners: whoever serves it can have himself trusted. Neither the gateway
// nor the authority names it.
func TestNobodyServesKeySets(t *testing.T) {
	served := func(text string) bool {
		return strings.Contains(text, ".Federation") || strings.Contains(text, ".Discovery()") || strings.Contains(text, "unitkey")
	}
	if !served("w.Write(custody.Federation.JWKS())") || !served("f.Discovery()") {
		t.Fatal("what serves a key set is not seen")
	}
	for _, domain := range []string{"gateway", "authority"} {
		files := 0
		err := filepath.WalkDir(filepath.Join("..", domain), func(path string, e os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			if served(string(b)) {
				t.Errorf("%s has to do with a unit's federation", path)
			}
			return err
		})
		if err != nil || files == 0 {
			t.Errorf("%s: %d files, %v", domain, files, err)
		}
	}
}
