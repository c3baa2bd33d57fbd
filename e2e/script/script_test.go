// Package script runs the real binaries as a person would: each file in testdata is a session at a terminal
// (github.com/rogpeppe/go-internal/testscript), run as the user of the test and, when that is root, as an ordinary user too.
package script

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/reevehq/reeve/e2e/binaries"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
)

// stage, in the environment, is the folder that the test of root prepared for the one of the ordinary user.
const stage = "REEVE_E2E_STAGE"

func TestScripts(t *testing.T) {
	base := os.Getenv(stage)
	if base == "" {
		base = build(t)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join(base, "testdata"),
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               func(env *testscript.Env) error { return setup(env, base) },
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": ready, "settings": settings, "call": call, "await": await, "flip": flip, "taken": taken, "signal": signalAll, "modes": modes, "url": url, "pasted": pasted, "printed": printed, "value": value, "private": private, "exits": exits, "attach": attach, "now": now,
		},
	})
}

// now keeps the time in a variable, and returns when its second is over: what is signed next is dated after it, though in seconds. now NAME.
func now(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: now NAME")
	}
	t := time.Now().UTC()
	ts.Setenv(args[0], t.Format(time.RFC3339Nano))
	time.Sleep(t.Truncate(time.Second).Add(time.Second).Sub(t))
}

// TestScriptsAsOrdinaryUser runs this test program again, as nobody, in a folder that nobody can reach and write.
func TestScriptsAsOrdinaryUser(t *testing.T) {
	need.Part(t, "root", "linux")
	if os.Getenv(stage) != "" {
		t.Skip("this is the ordinary user")
	}
	base := build(t)
	const nobody = 65534
	tmp := filepath.Join(base, "tmp")
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.Chown(tmp, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(base, "script.test")
	if err := copyFile(self, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestScripts$", "-test.v", "-test.timeout=10m")
	cmd.Dir = base
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tmp, "TMPDIR=" + tmp, stage + "=" + base, "REEVE_REQUIRE=" + os.Getenv("REEVE_REQUIRE")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	t.Logf("as nobody:\n%s", out)
	if err != nil {
		t.Errorf("as nobody: %v", err)
	}
	if n := bytes.Count(out, []byte("    --- PASS: TestScripts/")); n < 5 {
		t.Errorf("only %d scripts passed as nobody", n)
	}
}

// build puts the binaries and the scripts where every user can read them.
func build(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("/tmp", "reeve-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	bin := filepath.Join(base, "bin")
	if err := errors.Join(os.Chmod(base, 0o755), os.Mkdir(bin, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := binaries.Build(bin, "", binaries.All()...); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"testdata", "README.md"} {
		from := name
		if name == "README.md" {
			from = filepath.Join("..", "..", name)
		}
		if err := copyTree(from, filepath.Join(base, name)); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return copyFile(path, filepath.Join(to, rel), 0o644)
	})
}

func copyFile(from, to string, mode os.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, mode)
}

// setup gives a script the binaries in bin/, as a checkout has them, and takes away what root's demos leave elsewhere.
func setup(env *testscript.Env, base string) error {
	if err := os.Chmod(env.WorkDir, 0o755); err != nil {
		return err
	}
	for dir := filepath.Dir(env.WorkDir); dir != "/" && dir != "/tmp"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid()) {
			os.Chmod(dir, info.Mode().Perm()|0o011) // processes' users pass
		}
	}
	if err := os.Symlink(filepath.Join(base, "bin"), filepath.Join(env.WorkDir, "bin")); err != nil {
		return err
	}
	env.Setenv("PATH", filepath.Join(base, "bin")+":"+os.Getenv("PATH"))
	env.Setenv("README", filepath.Join(base, "README.md"))
	env.Defer(func() {
		runs, _ := filepath.Glob(filepath.Join(env.WorkDir, "*", "run.yaml"))
		deeper, _ := filepath.Glob(filepath.Join(env.WorkDir, "*", "*", "run.yaml"))
		for _, path := range append(runs, deeper...) {
			var run struct {
				State string `yaml:"state"`
			}
			if b, err := os.ReadFile(path); err == nil && yaml.Unmarshal(b, &run) == nil && strings.HasPrefix(run.State, "/var/lib/reeve/") {
				os.RemoveAll(run.State)
			}
		}
	})
	return nil
}

func condition(cond string) (bool, error) {
	if cond == "root" {
		return os.Geteuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// ready waits until what runs in a directory is ready: ready DIR.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: ready DIR")
	}
	var out []byte
	for range 300 {
		var err error
		if out, err = exec.Command(ts.MkAbs("bin/reeve"), "status", "--dir", ts.MkAbs(args[0])).CombinedOutput(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("never ready: %s", out)
}

// exits runs a command that ends with a status: exits STATUS COMMAND.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND")
	}
	err, status := ts.Exec(args[1], args[2:]...), 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status, err = exit.ExitCode(), nil
	}
	if strconv.Itoa(status) != args[0] || err != nil {
		ts.Fatalf("exit status %d, want %s: %v", status, args[0], err)
	}
}

// settings reads a file that `up` wrote for shells: settings FILE. Each variable is set for the script.
func settings(ts *testscript.TestScript, neg bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		if !ok {
			ts.Fatalf("no setting: %s", line)
		}
		ts.Setenv(name, value)
	}
}

// call calls the gateway and wants a status: call KIND STATUS, with KIND chat, stream or message. The answer is the command's
// standard output; its receipt is in $RECEIPT.
func call(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: call KIND STATUS")
	}
	status, answer := send(ts, args[0])
	fmt.Fprintf(ts.Stdout(), "%s", answer)
	if strconv.Itoa(status) != args[1] {
		ts.Fatalf("status %d, want %s: %s", status, args[1], answer)
	}
}

// await calls until the status comes: await STATUS KIND.
func await(ts *testscript.TestScript, neg bool, args []string) {
	var status int
	var answer []byte
	for range 600 {
		if status, answer = send(ts, args[1]); strconv.Itoa(status) == args[0] {
			fmt.Fprintf(ts.Stdout(), "%s", answer)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("never %s; the last was %d: %s", args[0], status, answer)
}

// send makes one call and returns the status and the body.
func send(ts *testscript.TestScript, kind string) (int, []byte) {
	path, body := "/v1/chat/completions", `{"model":"openai/demo-small","messages":[{"role":"user","content":"hello"}]}`
	switch kind {
	case "local":
		body = strings.Replace(body, "openai/demo-small", "local/any", 1)
	case "stream":
		body = strings.Replace(body, "{", `{"stream":true,`, 1)
	case "message":
		path, body = "/v1/messages", `{"model":"anthropic/demo-claude","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}`
	}
	req, err := http.NewRequest(http.MethodPost, ts.Getenv("REEVE_URL")+path, strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer "+ts.Getenv("REEVE_KEY"))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	ts.Check(err)
	ts.Setenv("RECEIPT", res.Header.Get("Reeve-Receipt"))
	return res.StatusCode, answer
}

// flip changes one bit of the last byte of the first file that matches: flip PATTERN.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("no file %s", args[0])
	}
	b, err := os.ReadFile(found[0])
	ts.Check(err)
	b[len(b)-1] ^= 1
	ts.Check(os.WriteFile(found[0], b, 0o600))
}

// taken listens on a port of a directory's run.yaml until the script ends: taken DIR NAME.
func taken(ts *testscript.TestScript, neg bool, args []string) {
	port := strconv.Itoa(ports(ts, args[0])[args[1]])
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv("PORT", port)
	ts.Setenv("PID", strconv.Itoa(os.Getpid()))
}

// url sets $REEVE_URL to a directory's gateway: url DIR.
func url(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv("REEVE_URL", "http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(ports(ts, args[0])["gateway"])))
}

func ports(ts *testscript.TestScript, dir string) map[string]int {
	var run struct {
		Ports map[string]int `yaml:"ports"`
	}
	ts.Check(yaml.Unmarshal([]byte(ts.ReadFile(filepath.Join(dir, "run.yaml"))), &run))
	return run.Ports
}

// signalAll sends a signal to a process that `up` started, or to up itself: signal NAME DIR up|gateway|….
func signalAll(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}
	pattern := `"` + args[2] + `":([0-9]+)`
	if args[2] == "up" {
		pattern = `"pid":([0-9]+)`
	}
	m := regexp.MustCompile(pattern).FindStringSubmatch(ts.ReadFile(filepath.Join(args[1], "lock")))
	if m == nil {
		ts.Fatalf("the lock names no %s", args[2])
	}
	pid, err := strconv.Atoi(m[1])
	ts.Check(err)
	ts.Check(syscall.Kill(pid, signals[args[0]]))
}

// modes wants a file's permission bits: modes 600 FILE….
func modes(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, got, args[0])
		}
	}
}

// value waits for a file and sets a variable to its first line: value VARIABLE FILE.
func value(ts *testscript.TestScript, neg bool, args []string) {
	for range 300 {
		if b, err := os.ReadFile(ts.MkAbs(args[1])); err == nil && bytes.HasSuffix(b, []byte("\n")) {
			line, _, _ := strings.Cut(string(b), "\n")
			ts.Setenv(args[0], line)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("%s never came", args[1])
}

// private lets the credentials of a custody.yaml go to this machine, under a CA: private FILE CA.
func private(ts *testscript.TestScript, neg bool, args []string) {
	ca := strings.ReplaceAll(strings.TrimSpace(ts.ReadFile(args[1])), "\n", "\n        ")
	text := ts.ReadFile(args[0])
	changed := strings.Replace(text, "destination:\n", "destination:\n      networks: [127.0.0.1/32]\n      ca: |\n        "+ca+"\n", 1)
	if changed == text {
		ts.Fatalf("%s names no destination", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(changed), 0o644))
}

// attach puts a signature that ssh-keygen made into a file of signatures, in place of the key's own: attach FILE KEY SIGNATURE.
func attach(ts *testscript.TestScript, neg bool, args []string) {
	sigs, err := statement.ParseSignatures([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	block, _ := pem.Decode([]byte(ts.ReadFile(args[2])))
	sigs = slices.DeleteFunc(sigs, func(s statement.Signature) bool { return s.KeyID == args[1] })
	b, err := statement.Canonical(append(sigs, statement.Signature{KeyID: args[1], Sig: block.Bytes}))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// pasted writes a person's session: every sh block of the README's section "Five minutes", without make: pasted README FILE.
func pasted(ts *testscript.TestScript, neg bool, args []string) {
	_, section, _ := strings.Cut(ts.ReadFile(args[0]), "## Five minutes")
	section, _, _ = strings.Cut(section, "\n## ")
	var session strings.Builder
	session.WriteString("set -eo pipefail\n")
	for _, block := range strings.Split(section, "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			if !strings.HasPrefix(line, "make ") {
				session.WriteString(line)
			}
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(session.String()), 0o644))
}

// printed writes the commands that up printed to paste, the indented lines after "Paste": printed FROM FILE.
func printed(ts *testscript.TestScript, neg bool, args []string) {
	_, section, ok := strings.Cut(ts.ReadFile(args[0]), "Paste")
	if !ok {
		ts.Fatalf("nothing to paste")
	}
	session := "set -eo pipefail\n"
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "  ") {
			session += line
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(session), 0o644))
}
