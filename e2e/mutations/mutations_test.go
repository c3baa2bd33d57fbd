// Package mutations takes the rules away, one after the other, and wants a test to turn red each time: a rule whose loss no test
// notices is not checked.
package mutations

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/need"
)

// mutation is a rule taken out of a file, and the test that must miss it.
type mutation struct {
	rule     string
	file     string // below internal/, or beside it
	old, new string // old stands in the file once
	test     string // package and test, such as statement.TestItems
}

var (
	load   = "statement/load.go"
	owner  = "statement/owner.go"
	items  = "statement/items.go"
	record = "statement/envelope.go"
	stream = "authority/stream.go"
)

func mutations() []mutation {
	return []mutation{
		{"a version descends from the one accepted", load, "if g.Version == was.Version+1 && g.Prev != was.SHA256 ||", "if", "statement.TestAttacks"},
		{"a version in force is the one that was accepted", load, "g.Version < was.Version || g.Version == was.Version && hexSHA256(g.raw) != was.SHA256", "g.Version < was.Version", "statement.TestAttacks"},
		{"no version is dated before its predecessor", load, "if before.Created.After(g.Created) {", "if false {", "statement.TestRollback"},
		{"a set expires", load, "if l.now.Before(until) {", "if true {", "statement.TestAttacks"},
		{"a lock does not live for ever", load, "if lock.Expires.Sub(lock.Created) > maxLockLife {", "if false {", "statement.TestAttacks"},
		{"files are those that were signed", load, "if int64(len(b)) != f.Size || hexSHA256(b) != f.SHA256 {", "if false {", "statement.TestTampering"},
		{"manifests are those that the lock binds", load, `if hash != "" && hexSHA256(g.raw) != hash {`, "if false {", "statement.TestAttacks"},
		{"a statement is not made after its lock", load, "if g.Created.After(s.Lock.Created) {", "if false {", "statement.TestTampering"},
		{"an expired charter blocks new statements", load, "if g.Created.After(l.charter.Expires) {", "if false {", "statement.TestCharterExpiry"},
		{"a charter descends from the one before", load, "l.charter != nil && (g.Prev != hexSHA256(l.charter.raw) || g.Created.Before(l.charter.Created))", "false", "statement.TestTampering"},
		{"the old root quorum signs the next charter", load, "if l.trusted != nil {", "if false {", "statement.TestCharterChange"},
		{"a demo is refused", load, "if l.trusted.Demo && !l.pin.AllowDemo {", "if false {", "statement.TestPin"},
		{"reading is bounded", load, "(len(b) > maxFile || l.left < 0)", "false", "statement.TestTampering"},

		{"the author signs", owner, "if signed[m.Author] == nil {", "if false {", "statement.TestTampering"},
		{"the author is live", owner, "p == nil || !p.Live(m.Created)", "p == nil", "statement.TestTampering"},
		{"the author does not approve", owner, `(id != m.Author || r.name == "root") && `, "", "statement.TestTampering"},
		{"enough approve", owner, "len(approvers) < need", "false", "statement.TestTampering"},
		{"two roles sign the lock", owner, `if !c.two(signed, nil, m.Created) {`, "if false {", "statement.TestTampering"},
		{"an attestation runs out", owner, "return p.here(t) && t.Before(p.AttestedUntil)", "return p.here(t)", "statement.TestDeputies"},
		{"who has left is gone", owner, "return p.Left.IsZero() || t.Before(p.Left)", "return true", "statement.TestOrphans"},
		{"the first live deputy acts", owner, "d != nil && d.Live(t)", "d != nil && !d.Live(t)", "statement.TestDeputies"},
		{"nobody holds two roles of one item", "statement/check.go", `if other := role[who]; other != "" && other != name {`, "if other := role[who]; false {", "statement.TestRules"},
		{"no key stands in the charter twice", "statement/check.go", "d.want(!keys[pub.point],", "d.want(true,", "statement.TestAttacks"},

		{"an item changed is signed by its owner", items, "case old.body != i.body:", "case false:", "captured.TestPeople"},
		{"an item added is signed by its owner", items, `add(i, "added", i.opens)`, `add(i, "added")`, "statement.TestItems"},
		{"an item removed is signed by its owner", items, `add(i, "removed", i.keeps)`, `add(i, "removed")`, "statement.TestItems"},
		{"a credential is not taken from its owner", items, `add(i, "changed", old.keeps, i.opens)`, `add(i, "changed", i.opens)`, "statement.TestItems"},
		{"what is unchanged is checked under another charter", "statement/set.go", ` || before.Lock.Statements["charter"] != s.Lock.Statements["charter"])`, ")", "statement.TestUnchangedUnderAnotherCharter"},
		{"what is unchanged is signed under another charter", load, "if g.judge != l.charter {", "if g.judge == nil {", "statement.TestUnchangedUnderAnotherCharter"},
		{"custody that was read anew is compared", items, "before.Custody[unit] == cu", "cu != nil", "statement.TestItems"},
		{"a custodian's key is part of what it serves", items, "[]any{cr, served(cr)}", "[]any{cr, served(cr) == nil}", "statement.TestItems"},
		{"an issuer's key is part of whom it vouches for", items, "[]any{w, trusted}", "w", "statement.TestItems"},
		{"a unit signs the gateways that serve it", items, "reach.opens = []Owner{{Role: \"policy\", Unit: u}}", "reach.opens = nil", "statement.TestItems"},
		{"both units sign a grant", items, `[]Owner{{Role: "policy", Unit: unit}, {Role: "policy", Unit: g.Unit}}`, `[]Owner{{Role: "policy", Unit: unit}}`, "statement.TestItems"},
		{"nobody attests in another's name", items, "return []string{o.Person} // he", "return nil // he", "statement.TestItems"},

		{"one person reopens nothing", record, "r.Open && !(two && mine) ||", "", "captured.TestRecords"},
		{"one person does not close everything", record, `mine && target.Kind != "everything"`, "mine", "captured.TestRecords"},
		{"one person does not lengthen a bound", record, `case !s.Charter.twoOver(by, where{estate: true}, x.Created):`, "case by == nil:", "captured.TestRecords"},
		{"one person does not retire a log", record, `case !s.Charter.two(by, nil, r.Created):`, "case by == nil:", "captured.TestRecords"},
		{"a policy owner registers keys", record, `case !s.Charter.anyHolds(by, role{"policy", u.ID}, k.NotBefore), !s.Charter.anyHolds(by, role{"policy", u.ID}, now):`, "case by == nil:", "captured.TestRecords"},
		{"no key is dated back", record, `, !s.Charter.anyHolds(by, role{"policy", u.ID}, now):`, ":", "statement.TestAttacks"},
		{"what was published opens as of now alone", "statement/standing.go", "|| r.Open || r.Time.After(now)", "|| r.Time.After(now)", "statement.TestStanding"},
		{"what was published ends nothing by one who hands it on", "statement/standing.go", "r.End = false", "", "statement.TestStanding"},
		{"a closing stands by who owned something there", "statement/standing.go", "(at.estate || slices.Contains(at.units, u.ID)) && ", "", "statement.TestStanding"},
		{"a version keeps closings", "statement/standing/standing.go", "if then[t] == nil {", "if then[t] == nil && false {", "statement.TestVersionsKeepClosings"},
		{"a version keeps openings", "statement/standing/standing.go", "if was[t] == nil {", "if was[t] == nil && false {", "statement.TestVersionsKeepClosings"},
		{"a credential's owner hands it over", record, "case !live || by[owner.ID] == nil:", "case !live && by[owner.ID] == nil && false:", "captured.TestRecords"},

		{"recovery takes several keys", "statement/recovery.go", "case n < r.need():", "case false:", "statement.TestRecovery"},
		{"recovery is announced", "statement/recovery.go", "if a.Version != g.Version || a.SHA256 != hexSHA256(g.raw) {", "if false {", "statement.TestRecovery"},
		{"recovery waits for its notice", "statement/recovery.go", "!known && l.now.Before(until)", "false", "statement.TestRecovery"},
		{"recovery's notice is not dated back", "statement/recovery.go", "if l.pin.Heard != nil && !known {", "if false {", "statement.TestRecovery"},

		{"a use across units needs a grant", "policy/policy.go", "if lent && !p.set.Lent(credential, home.ID) {", "if false {", "policy.TestGrant"},
		{"the lender's permits are not the borrower's", "policy/policy.go", ".forbids()), append(q.members, lender", "), append(q.members, lender", "policy.TestGrant"},
		{"what applies everywhere only forbids", "policy/compile.go", "say(!estate || !permit,", "say(true,", "policy.TestEstateWideForbid"},
		{"a permit does not reach beyond its unit", "policy/compile.go", "say(!permit || c.ours(principal),", "say(true,", "policy.TestCompileRefuses"},
		{"nothing is lent over a tenant's border", "statement/check.go", "g.Unit != unit && tenant(g.Unit) == tenant(unit)", "true", "policy.TestGrant"},

		{"an orphan is not used", "statement/index.go", `if _, live := s.Owner(credential, t); !live {`, "if false {", "statement.TestOrphans"},
		{"a gateway serves the units that it names", "statement/index.go", "case !slices.Contains(g.Units, unit.ID):", "case unit == nil:", "statement.TestOrphans"},

		{"a payload's key is on disk before its entry", "ledger/keyring.go", "if err := k.file.Sync(); err != nil {", "if err := error(nil); err != nil {", "ledger.TestNoEntryNamesAKeyThatACrashTook"},
		{"new actors are bounded", "ledger/keyring.go", "k.met[tenant]+strange > maxActors", "k.met[tenant] > maxActors", "ledger.TestNewActorsAreBounded"},
		{"an erased key is off the disk", "ledger/keyring.go", "_, err := k.file.WriteAt(make([]byte, slotLen), at)", "var err error", "ledger.TestKeyringAgainstModel"},
		{"a version is known before it is bound", "custodian/lifecycle/fetch.go", "v, err = k.expect(h)", "err = nil", "custodian/lifecycle.TestKilledBetweenEntryAndFile"},
		{"what was frozen expires", "custodian/lifecycle/history.go", "\t\tcase expired:\n", "\t\tcase expired && v.State != Frozen:\n", "custodian/lifecycle.TestFrozenUntilItExpires"},

		{"a process asks for the stream in its own name", "feed/ask.go", "key.Process == a.Process && signs(key, env)", "signs(key, env)", "authority.TestStreamIsForTheEstatesProcesses"},
		{"a request for the stream is used once", stream, "a.unused(ask, a.clock()); err != nil {", "a.unused(ask, a.clock()); err != nil && false {", "authority.TestStreamIsForTheEstatesProcesses"},
		{"a request for the stream is good at one authority", stream, "case !a.replay.Fresh(ask.Challenge, a.clock()):", "case false:", "authority.TestRequestIsGoodAtOneAuthority"},
		{"a request for the stream ages", "feed/ask.go", " || away > AskLife", " || away < 0", "feed.TestAskVector"},
		{"whose key leaves the charter loses its stream", "authority/authority.go", "\ta.expel()\n", "", "authority.TestStreamIsForTheEstatesProcesses"},
		{"one process does not take every stream", stream, "count[most] < 2", "count[most] > 0", "authority.TestStreamsOfOneProcessMakeRoom"},
		{"a handover goes to its custodian", stream, "r.custodian == f.process", `r.custodian != ""`, "authority.TestPublishes"},
		{"the first lock is cosigned", "feed/publication.go", "len(cosigned) < need", "len(cosigned) < 0*need", "feed.TestCosignedLock"},
		{"the first lock is an authority's", "feed/publication.go", "speaks[k.Process] && ", "", "feed.TestCosignedLock"},
		{"the first lock's entry names it", "feed/publication.go", "if e.Type != entry.Publish || e.Estate", "if e.Type == entry.Intent && e.Estate", "feed.TestCosignedLock"},
		{"the first lock's entry is in the tree", "feed/publication.go", "err := tlog.CheckRecord(p.Proof, tree.N, tree.Hash, e.Seq, tlog.RecordHash(p.Entry)); err != nil", "err := tlog.CheckRecord(p.Proof, tree.N, tree.Hash, e.Seq, tlog.RecordHash(p.Entry)); err != nil && tree.N < 0", "feed.TestCosignedLock"},

		{"a signed request's body is the one that was signed", "pop/pop.go", "|| got[0] != Digest(p.request.Body)", "", "pop.TestAlterations"},
		{"a signed request ends", "pop/pop.go", "|| !now.Before(p.Expires.Add(Skew))", "", "pop.TestTimes"},
		{"a signed request is signed by its key", "pop/pop.go", "if !verify(p.Key, []byte(p.base), p.signature) {", "if p.base == \"\" {", "pop.TestAlterations"},

		{"a token is for this estate", "workload/access.go", "if a.Audience != AccessAudience(t.set.Charter.Estate) {", "if a.Audience == \"\" {", "workload.TestAccessTokens"},
		{"an embedded subject is the token's", "workload/access.go", "case subject.Workload != v.Workload:", "case subject.Workload == \"\":", "workload.TestAccessTokens"},
		{"who only reeve vouches for is named so by the charter", "workload/access.go", "if !w.VouchedBy(statement.IssuerAuthority) {", "if w == nil {", "workload.TestAccessTokens"},
		{"an issuer signs with its own algorithms", "workload/token.go", "if !slices.Contains(s.Algorithms, header.Algorithm) {", "if false {", "workload.TestForgedTokens"},
		{"a bound token is exchanged with its key", "authority/token/token.go", "who.bound != r.proof.key {", "who.bound == \"\" {", "authority/token.TestBinding"},
		{"exchange binds no new key", "authority/token/token.go", `if r.proof.key != "" && s.bound == ""`, `if r.proof.key == "-" && s.bound == ""`, "authority/token.TestBinding"},

		{"one person breaks no glass", "statement/glass.go", "|| !s.Charter.two(by, []string{unit.ID}, b.Created):", ":", "captured.TestRecords"},
		{"a break-glass lasts an hour at most", "statement/glass.go", "life <= 0 || life > maxGlass:", "life <= 0 || life > 1000*maxGlass:", "custodian.TestBreakGlass"},
		{"who broke the glass recovers nothing for himself", "statement/glass.go", "case by[p.ID] != nil:", "case by == nil:", "custodian.TestRecovery"},
		{"a recipient holds no policy role", "statement/glass.go", `case slices.Contains(s.Charter.roles(p.ID, nil, b.Created), "policy"):`, "case by == nil:", "custodian.TestRecovery"},
		{"a review is somebody else's", "custodian/glass/glass.go", "return !slices.Contains(k.Signers, p)", "return len(p) > 0", "custodian/glass.TestReviewed"},
		{"a break-glass is over in time", "custodian/glass/glass.go", "t.Before(k.Until) && ", "", "custodian/glass.TestWaives"},

		{"who has no keys signals nothing", "statement/signal.go", `from == nil || from.JWKS == "" || r.Estate`, "from == nil || r.Estate", "statement.TestSignals"},

		{"an authority's token is by its token key", "workload/access.go", `t.set.ServiceKeys("token", now)`, "t.set.Charter.ServiceKeys", "captured.TestAuthority"},
		{"an access token is short-lived", "workload/access.go", "|| a.Expiry-a.IssuedAt > AccessLife", "", "captured.TestAuthority"},
		{"the authority's own word is marked", "workload/access.go", "v.AuthorityAsserted = true", "v.AuthorityAsserted = false", "captured.TestAuthority"},
		{"an authority closes tokens alone", record, `if r.Target.Kind != "token" || r.Open`, "if r.Open", "captured.TestServiceKeys"},
		{"a lifecycle owner breaks the glass", "statement/glass.go", `!s.Charter.anyHolds(by, role{"lifecycle", unit.ID}, b.Created) || `, "", "captured.TestBreakGlass"},
		{"a handover is its custodian's", record, "case h.Custodian != custodian || ", "case ", "captured.TestCustodian"},
		{"a custodian takes what it serves", record, " || !s.Serves(custodian, h.Credential):", ":", "captured.TestCustodian"},
		{"enough witnesses cosign", "feed/publication.go", "need := max(set.Charter.Witnesses.Need, 1)", "need := 1", "captured.TestAuditors"},
		{"a heartbeat is by its authority's key", "feed/feed.go", "k.Process == h.Authority && statement.VerifyService(k, HeartbeatType, env.Payload, env.Signatures[0].Sig)", "k.Process == h.Authority", "captured.TestAuditors"},
		{"a signed request goes where it was signed for", "pop/pop.go", `line(b, "@target-uri", r.URL)`, `line(b, "@target-uri", "")`, "captured.TestSignedRequests"},
		{"a signed request is taken once", "replay/replay.go", "case one || other:", "case one && other:", "captured.TestSignedRequests"},
		{"a signal closes by the events of the charter", "statement/signal.go", "|| !slices.Contains(s.Events, name)", "", "captured.TestSignals"},
		{"a log's past stays what it was", "../verify/link.go", "err != nil || h != old.Hash {", "err != nil || h == (tlog.Hash{}) {", "captured.TestPast"},

		{"an SSH signature is for statements", "statement/sshsig.go", "case namespace != Namespace:", "case namespace == \"\":", "statement.TestSSHSignatureRefused"},
		{"an SSH signature is by the person's key", "statement/sshsig.go", "if !bytes.Equal(s.key, k.blob) || s.format", "if s.format", "statement.TestSSHSignatureRefused"},
		{"a passkey's user is there and verified", "statement/webauthn.go", "case flags&userPresent == 0 || flags&userVerified == 0:", "case flags&userPresent == 0:", "statement.TestPasskeySignatureRefused"},
		{"a passkey signs this statement", "statement/webauthn.go", `case text("challenge") != base64.RawURLEncoding.EncodeToString(challenge[:]):`, `case text("challenge") == "" || base64.RawURLEncoding == nil:`, "statement.TestPasskeySignatureRefused"},
		{"a passkey is not synced", "statement/webauthn.go", `case flags&backupEligible != 0 && k.Synced != "accepted":`, `case flags&backupEligible != 0 && k.Synced == "-":`, "statement.TestPasskeySignatureRefused"},
	}
}

// The tests with one rule gone, a few packages at a time. Each must fail, and not for want of compiling.
func TestRealMutations(t *testing.T) {
	need.Real(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutations() {
		t.Run(m.rule, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(root, "internal", filepath.FromSlash(m.file))
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(b), m.old); n != 1 {
				t.Fatalf("%s has %q %d times, not once: the rule moved", m.file, m.old, n)
			}
			dir := t.TempDir()
			mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
			replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutant}})
			if err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string][]byte{mutant: []byte(strings.Replace(string(b), m.old, m.new, 1)), overlay: replace} {
				if err := os.WriteFile(name, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			pkg, test, _ := strings.Cut(m.test, ".")
			args := []string{"test", "-vet=off", "-overlay", overlay, "-count=1", "-run", "^" + test + "$", "./internal/" + pkg}
			if pkg == "captured" {
				args = append(args, "-args", "-seed=2", "-estates=3", "-attacks=70")
			}
			cmd := exec.Command("go", args...)
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("%s passes without it", m.test)
			case !strings.Contains(string(out), "--- FAIL: "+test):
				t.Errorf("%s did not fail, it did not run:\n%s", m.test, out)
			}
		})
	}
}
