package statement

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Isolation levels, strongest first.
func isolationLevels() []string { return []string{"host", "separate-uid", "one-uid", "none"} }

// ParseCharter reads a charter and holds it against itself. It verifies no signature.
func ParseCharter(file string, data []byte) (*Charter, error) {
	c, _, err := parseCharter(file, data)
	return c, err
}

func parseCharter(file string, data []byte) (*Charter, *document, error) {
	c := new(Charter)
	d, err := parse(file, data, c)
	if err != nil {
		return nil, nil, err
	}
	return c, d, checkCharter(c, d)
}

// checkCharter holds a charter against itself.
func checkCharter(c *Charter, d *document) error {
	d.want(ValidID(c.Estate), "id", "$.estate", "%q is not an estate id", c.Estate)
	tenants, units, people, keyIDs, keys := set{}, set{}, set{}, set{}, set{}
	for i, t := range c.Tenants {
		d.id(tenants, t, at("$.tenants", i))
	}
	for i, u := range c.Units {
		p := at("$.units", i)
		d.id(units, u.ID, p+".id")
		d.want(tenants[u.Tenant], "reference", p+".tenant", "the unit %q is in the tenant %q, which the charter does not have", u.ID, u.Tenant)
	}
	c.people = map[string]*Person{}
	for i := range c.People {
		d.id(people, c.People[i].ID, at("$.people", i)+".id")
		c.people[c.People[i].ID] = &c.People[i]
	}
	for i := range c.People {
		p, path := &c.People[i], at("$.people", i)
		d.want(!p.AttestedUntil.IsZero(), "value", path, "nothing says until when %s is attested", p.ID)
		d.want(people[p.AttestedBy] && p.AttestedBy != p.ID, "reference", path+".attested_by", "%s is attested by %q: it must be somebody else of the charter", p.ID, p.AttestedBy)
		for j, dep := range p.Deputies {
			d.want(people[dep] && dep != p.ID, "reference", at(path+".deputies", j), "%s has the deputy %q: it must be somebody else of the charter", p.ID, dep)
		}
		d.want(p.Recipient == "" || validRecipient(p.Recipient), "key", path+".recipient", "%q is not an age X25519 recipient", p.Recipient)
		d.want(p.Notify == "" || validNotify(p.Notify), "value", path+".notify", "%q is not an https URL, nor an http one of this machine", p.Notify)
		d.want(len(p.Keys) > 0, "key", path, "%s has no key", p.ID)
		for j := range p.Keys {
			k, kp := &p.Keys[j], at(path+".keys", j)
			d.id(keyIDs, k.ID, kp+".id")
			pub, err := k.parse()
			if d.want(err == nil, "key", kp, "%v", err) {
				d.want(!keys[pub.point], "separation", kp, "the key %s stands in the charter twice", k.ID)
				keys[pub.point] = true
			}
		}
	}
	c.checkRecovery(d, keyIDs, keys)
	holders := func(list []string, threshold int, path string) {
		seen := set{}
		for i, id := range list {
			d.want(people[id], "reference", at(path, i), "%q is not a person of the charter", id)
			d.want(!seen[id], "value", at(path, i), "%q is listed twice", id)
			seen[id] = true
		}
		d.want(len(seen) >= threshold, "approvers", path, "%d people hold a role that needs %d", len(seen), threshold)
	}
	for name, n := range map[string]int{"root": c.Threshold.Root, "policy": c.Threshold.Policy, "lifecycle": c.Threshold.Lifecycle, "operations": c.Threshold.Operations} {
		d.within(int64(n), 100, "$.threshold."+name)
	}
	d.want(c.Threshold.Root != 1, "value", "$.threshold.root", "a root quorum of 1 is not a quorum")
	holders(c.Roles.Root, c.threshold("root"), "$.roles.root")
	holders(c.Roles.Operations, c.threshold("operations"), "$.roles.operations")
	for id := range c.Roles.Units {
		d.want(units[id], "reference", "$.roles.units."+id, "roles are given for the unit %q, which the charter does not have", id)
	}
	for _, u := range c.Units {
		r, path := c.Roles.Units[u.ID], "$.roles.units."+u.ID
		holders(r.Policy, c.threshold("policy"), path+".policy")
		holders(r.Lifecycle, c.threshold("lifecycle"), path+".lifecycle")
	}
	if d.err != nil {
		return d.done()
	}
	for i, p := range c.People { // everybody is live at the zero time: only the lists count
		held, by := c.roles(p.ID, nil, time.Time{}), c.roles(p.AttestedBy, nil, time.Time{})
		other := slices.ContainsFunc(by, func(r string) bool { return !slices.Contains(held, r) })
		d.want(len(held) == 0 || other, "separation", at("$.people", i)+".attested_by", "%s attests %s, who holds the same role", p.AttestedBy, p.ID)
	}
	for _, u := range c.Units {
		c.separate(d, "the unit "+u.ID, "$.roles.units."+u.ID, c.Roles.Units[u.ID].Policy, c.Roles.Units[u.ID].Lifecycle)
	}
	workloads := set{}
	for i, w := range c.Workloads {
		p := at("$.workloads", i)
		d.id(workloads, w.ID, p+".id")
		d.want(units[w.Unit], "reference", p+".unit", "the workload %q is in the unit %q, which the charter does not have", w.ID, w.Unit)
	}
	checkIssuers(c, d)
	checkSignals(c, d)
	witnesses := set{}
	for i, k := range c.ServiceKeys {
		p := at("$.service_keys", i)
		d.oneOf(k.Use, p+".use", "log", "feed", "token", "witness")
		d.want(ValidID(k.Process), "id", p+".process", "%q is not a process id", k.Process)
		d.want(k.NotBefore.Before(k.NotAfter), "value", p, "the key of %s begins when it has ended", k.Process)
		name, alg, pub, err := ParseNoteKey(k.Key)
		d.want(err == nil, "key", p+".key", "%v", err)
		d.want((alg == 4) == (k.Use == "witness"), "key", p+".key", "a witness key has algorithm 4 (cosignature/v1), every other key algorithm 1; this one, for %s, has %d", k.Use, alg)
		d.want(err != nil || !keys[string(pub)], "separation", p+".key", "the key of %s stands in the charter twice", k.Process)
		keys[string(pub)] = true
		origin := "reeve/" + c.Estate + "/" + k.Process
		d.want(k.Use != "log" || name == origin || strings.HasPrefix(name, origin+"/"), "key", p+".key", "the log key of %s must be named %s", k.Process, origin)
		if k.Use == "witness" {
			witnesses[k.Process] = true
		}
	}
	for i, k := range c.ServiceKeys {
		d.want(k.Use == "witness" || !witnesses[k.Process], "separation", at("$.service_keys", i), "the process %s would witness its own keys", k.Process)
	}
	d.within(int64(c.Witnesses.Need), int64(len(witnesses)), "$.witnesses.need")
	for name, b := range map[string]Duration{"high": c.Revocation.High, "normal": c.Revocation.Normal} {
		d.want(b == 0 || time.Duration(b) >= 2*time.Second && time.Duration(b) <= time.Minute, "value", "$.revocation."+name, "the bound %v is not between 2s and 1m", time.Duration(b))
	}
	d.oneOf(c.RequireIsolation, "$.require_isolation", append(isolationLevels(), "")...)
	for i, f := range c.RequireConfinement {
		d.oneOf(f, at("$.require_confinement", i), "landlock", "seccomp")
	}
	return d.done()
}

type set = map[string]bool

// separate wants that nobody who holds one of the three owner roles of an item, or would as a deputy, holds another.
// Operations is the same for the whole estate.
func (c *Charter) separate(d *document, item, path string, policy, lifecycle []string) {
	role := map[string]string{}
	for name, list := range map[string][]string{"policy": policy, "lifecycle": lifecycle, "operations": c.Roles.Operations} {
		for _, id := range list {
			for _, who := range append([]string{id}, c.person(id).Deputies...) {
				if other := role[who]; other != "" && other != name {
					two := []string{name, other}
					slices.Sort(two)
					if d.err == nil {
						d.want(false, "separation", path, "%s stands in two owner roles of %s: %s and %s", who, item, two[0], two[1])
						d.err.Person = who
					}
				}
				role[who] = name
			}
		}
	}
}

// checkPolicy holds a unit's policy statement against its files, its custody and the charter.
func checkPolicy(p *PolicyStatement, unit string, files map[string][]byte, custody map[string]*CustodyStatement, c *Charter, d *document) error {
	d.want(p.Unit == unit, "lock", "$.unit", "the statement of the unit %q says it is for %q", unit, p.Unit)
	d.cedar(p.Cedar, files)
	workload := func(id, path string) {
		i := slices.IndexFunc(c.Workloads, func(w Workload) bool { return w.ID == id })
		d.want(id == "*" || i >= 0 && c.Workloads[i].Unit == unit, "reference", path, "the unit %q has no workload %q", unit, id)
	}
	for i, e := range p.Ceilings {
		path := at("$.ceilings", i)
		workload(e.Workload, path+".workload")
		d.want(e.Credential == "*" || usable(custody, unit, e.Credential) != nil, "reference", path+".credential", "the unit %q has no credential %q", unit, e.Credential)
		for _, n := range []int64{e.RequestsPerMinute, e.Concurrent, e.BytesPerMinute} {
			d.within(n, unbounded, path)
		}
		d.oneOf(e.OnExcess, path+".on_excess", "", "deny", "freeze")
	}
	for i, l := range p.Limits {
		path := at("$.limits", i)
		workload(l.Workload, path+".workload")
		d.within(l.CredentialsPerMinute, unbounded, path)
		d.within(l.DenialsPerMinute, unbounded, path)
		d.oneOf(l.OnExcess, path+".on_excess", "", "deny", "freeze")
	}
	return d.done()
}

// cedar wants the files of a statement to be its Cedar files and one other.
func (d *document) cedar(names []string, files map[string][]byte) {
	named := set{}
	for i, f := range names {
		_, ok := files[f]
		d.want(ok && strings.HasSuffix(f, ".cedar"), "missing", at("$.cedar", i), "the Cedar file %q is not part of the statement", f)
		d.want(!named[f], "value", at("$.cedar", i), "the Cedar file %q is named twice", f)
		named[f] = true
	}
	d.want(len(files) == len(named)+1, "reference", "$.cedar", "the statement holds %d files and names %d", len(files), len(named)+1)
}

// usable is the credential if it is the unit's own or another unit's that was granted to it, else nil.
func usable(custody map[string]*CustodyStatement, unit, id string) *Credential {
	for home, cu := range custody {
		if home != unit && !slices.Contains(cu.Grants, Grant{id, unit}) {
			continue
		}
		if i := slices.IndexFunc(cu.Credentials, func(k Credential) bool { return k.ID == id }); i >= 0 {
			return &cu.Credentials[i]
		}
	}
	return nil
}

func checkCustody(cu *CustodyStatement, unit string, c *Charter, d *document) error {
	d.want(cu.Unit == unit, "lock", "$.unit", "the statement of the unit %q says it is for %q", unit, cu.Unit)
	custodians, credentials, peers := set{}, set{}, set{}
	for i, k := range cu.Custodians {
		path := at("$.custodians", i)
		d.id(custodians, k.ID, path+".id")
		d.want(validRecipient(k.Recipient), "key", path+".recipient", "%q is not an age X25519 recipient", k.Recipient)
		d.peer(peers, k.Peer, path+".peer")
		known := slices.ContainsFunc(c.ServiceKeys, func(s ServiceKey) bool { return s.Use == "log" && s.Process == k.ID && s.Key == k.Log })
		d.want(known, "reference", path+".log", "the charter has no log key of %s that equals this one", k.ID)
	}
	for i := range cu.Credentials {
		cr, path := &cu.Credentials[i], at("$.credentials", i)
		d.id(credentials, cr.ID, path+".id")
		d.want(slices.Contains(c.Roles.Units[unit].Lifecycle, cr.Owner), "owner", path+".owner", "%q, the owner of %s, does not hold the lifecycle role of %s", cr.Owner, cr.ID, unit)
		d.oneOf(cr.Class, path+".class", "normal", "high")
		d.want(cr.Template == "" || ValidID(cr.Template), "id", path+".template", "%q is not a template's name", cr.Template)
		d.oneOf(cr.Dialect, path+".dialect", "", "openai", "anthropic")
		d.oneOf(cr.Source, path+".source", "sealed", "federation", "vault", "oauth", "github-app", "openai-key")
		checkFrom(cr, cu, path+".from", d)
		p := cr.Probe
		d.want(p == (Probe{}) || slices.Contains([]string{"GET", "HEAD", "POST"}, p.Method) && strings.HasPrefix(p.Path, "/") && (p.Status >= 400 && p.Status < 500 || p.Status == 200 && p.Holds != ""), "value", path+".probe",
			"a probe needs a method (GET, HEAD or POST), a path, and the status of the provider's authentication error: 4xx, or 200 with what the error holds")
		d.oneOf(cr.AcceptIsolation, path+".accept_isolation", append(isolationLevels(), "")...)
		d.oneOf(cr.OnReflection, path+".on_reflection", "", "alarm", "freeze")
		d.oneOf(cr.Honey, path+".honey", "", "alarm", "freeze")
		d.want(len(cu.Custodians) > 0, "reference", path, "no custodian serves %s", cr.ID)
		for j, k := range cr.Custodians {
			d.want(custodians[k], "reference", at(path+".custodians", j), "%q is not a custodian of the unit %s", k, unit)
		}
		checkDestination(&cr.Destination, cr.Template, path+".destination", d)
		d.oneOf(cr.Inject.As, path+".inject.as", append([]string{"bearer", "header", "query", "sigv4", "tls"}, optional(cr.Template)...)...)
		in := cr.Inject
		named := slices.Contains([]string{"header", "query", "sigv4"}, in.As)
		d.want(named == (in.Name != "") && isToken(in.Name), "value", path+".inject", "inject as %q has the name %q", in.As, in.Name)
		d.want((in.Region == "" || in.As == "" || in.As == "sigv4") && (in.Region != "" || in.As != "sigv4"), "value", path+".inject", "inject as %q has the region %q", in.As, in.Region)
	}
	checkFederation(cu, d)
	tenant := func(id string) string {
		if i := slices.IndexFunc(c.Units, func(u Unit) bool { return u.ID == id }); i >= 0 {
			return c.Units[i].Tenant
		}
		return ""
	}
	for i, g := range cu.Grants {
		path := at("$.grants", i)
		d.want(credentials[g.Credential], "reference", path+".credential", "the unit %q has no credential %q to grant", unit, g.Credential)
		d.want(g.Unit != unit && tenant(g.Unit) == tenant(unit), "reference", path+".unit", "%q is not another unit of the tenant %s: nothing is lent over that border", g.Unit, tenant(unit))
		d.want(!slices.Contains(cu.Grants[:i], g), "value", path, "%s is granted to %s twice", g.Credential, g.Unit)
	}
	return d.done()
}

// checkFrom holds where a source gets secrets to the form of a destination. What the kind's parameters mean is checked by internal/custody.
func checkFrom(cr *Credential, cu *CustodyStatement, path string, d *document) {
	f := &cr.From
	if cr.Source == "sealed" {
		d.want(f.URL == "" && len(f.Parameters) == 0 && f.Home == "", "value", path, "a sealed credential comes from nowhere: its owner hands it over")
		return
	}
	u, err := url.Parse(f.URL)
	ok := err == nil && u.User == nil && u.RawQuery == "" && u.Fragment == "" && strings.HasPrefix(u.Path, "/") && validOrigin("https://"+u.Host, "https") && f.URL == "https://"+u.Host+u.EscapedPath()
	d.want(ok || f.URL == "" && cr.Template != "", "value", path+".url", "%q is not an endpoint: https://host[:port]/path", f.URL)
	checkNetwork(f.Networks, f.ProxyNetworks, f.CA, f.Proxy, path, d)
	known := slices.ContainsFunc(cu.Custodians, func(k Custodian) bool {
		return k.ID == f.Home && (len(cr.Custodians) == 0 || slices.Contains(cr.Custodians, k.ID))
	})
	d.want(f.Home == "" || known, "reference", path+".home", "%q is not a custodian that serves %s", f.Home, cr.ID)
}

// optional is the empty word when a template fills what is left out.
func optional(template string) []string {
	if template != "" {
		return []string{""}
	}
	return nil
}

func checkDestination(t *Destination, template, path string, d *document) {
	d.want(validOrigin(t.Origin, "https") || t.Origin == "" && template != "", "value", path+".origin", "%q is not an origin: https://host or https://host:port, nothing after it", t.Origin)
	d.want(t.Prefix == "" || validPattern(t.Prefix) && !strings.Contains(t.Prefix, "*"), "value", path+".prefix", "%q is not a path prefix such as /api", t.Prefix)
	d.want(template != "" || len(t.Methods) > 0 && len(t.Paths) > 0, "value", path, "the destination names no methods or no paths")
	for i, m := range t.Methods {
		ok := m != "" && strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && m != "CONNECT" && m != "TRACE"
		d.want(ok, "value", at(path+".methods", i), "%q is not a method that may be used: upper case, neither CONNECT nor TRACE", m)
	}
	for i, p := range t.Paths {
		some, pattern, ok := strings.Cut(p, " ")
		for m := range strings.SplitSeq(some, ",") {
			d.want(!ok || slices.Contains(t.Methods, m), "value", at(path+".paths", i), "%q is for a method that the destination does not name", p)
		}
		if !ok {
			pattern = p
		}
		d.want(validPattern(pattern), "value", at(path+".paths", i), "%q is not a path pattern: literal segments, * for one whole segment, ** at the end; before it, methods and a space", p)
	}
	checkNetwork(t.Networks, t.ProxyNetworks, t.CA, t.Proxy, path, d)
}

// checkNetwork holds the ways to an endpoint.
func checkNetwork(networks, proxyNetworks []string, ca, proxy, path string, d *document) {
	for name, list := range map[string][]string{"networks": networks, "proxy_networks": proxyNetworks} {
		for i, n := range list {
			p, err := netip.ParsePrefix(n)
			d.want(err == nil && p == p.Masked(), "value", at(path+"."+name, i), "%q is not a network such as 10.0.0.0/8", n)
		}
	}
	d.want(ca == "" || x509.NewCertPool().AppendCertsFromPEM([]byte(ca)), "value", path+".ca", "the CA holds no certificate in PEM")
	d.want(proxy == "" || validOrigin(proxy, "http"), "value", path+".proxy", "%q is not a proxy: http://host:port", proxy)
}

// checkOperations holds the operations statement against the charter and every unit's custody.
func checkOperations(o *Operations, c *Charter, custody map[string]*CustodyStatement, d *document) error {
	gateways, peers := set{}, set{}
	for i, g := range o.Gateways {
		d.peer(peers, g.Peer, at("$.gateways", i)+".peer")
	}
	for i := range o.Gateways {
		g, path := &o.Gateways[i], at("$.gateways", i)
		d.id(gateways, g.ID, path+".id")
		d.want(validOrigin(g.URL, "https") || validOrigin(g.URL, "http"), "value", path+".url", "%q is not a public URL: scheme and host, nothing after them", g.URL)
		d.want(len(g.Units) > 0, "value", path, "the gateway %s serves no unit", g.ID)
		var policy, lifecycle []string
		var served []Custodian
		for j, u := range g.Units {
			cu := custody[u]
			if !d.want(cu != nil, "reference", at(path+".units", j), "%q is not a unit", u) {
				continue
			}
			served = append(served, cu.Custodians...)
			reached := slices.ContainsFunc(cu.Custodians, func(k Custodian) bool { return slices.Contains(g.Custodians, k.ID) })
			d.want(reached, "reference", path+".custodians", "the custody statement of %s enrols none of the custodians of %s", u, g.ID)
			policy = append(policy, c.Roles.Units[u].Policy...)
			lifecycle = append(lifecycle, c.Roles.Units[u].Lifecycle...)
		}
		checkCustodians(g, served, peers, path+".custodians", d)
		owner := func(id, role string, holders []string) {
			d.want(slices.Contains(holders, id), "owner", path+".owners."+role, "%q, the %s owner of %s, does not hold that role for it", id, role, g.ID)
		}
		owner(g.Owners.Policy, "policy", policy)
		owner(g.Owners.Operations, "operations", c.Roles.Operations)
		owner(g.Owners.Lifecycle, "lifecycle", lifecycle)
		c.separate(d, "the gateway "+g.ID, path+".owners", policy, lifecycle)
	}
	providers, defaults := set{}, set{}
	for i, p := range o.Providers {
		path := at("$.providers", i)
		d.id(providers, p.Name, path+".name")
		d.oneOf(p.Dialect, path+".dialect", "openai", "anthropic")
		d.want(!p.Default || !defaults[p.Dialect], "value", path+".default", "two providers are the default for %s", p.Dialect)
		defaults[p.Dialect] = defaults[p.Dialect] || p.Default
		for unit, id := range p.Credentials {
			cr := usable(custody, unit, id)
			if d.want(cr != nil, "reference", path+".credentials."+unit, "the unit %q has no credential %q", unit, id) {
				d.want(cr.Dialect == p.Dialect, "reference", path+".credentials."+unit, "%s speaks %q, the provider %s", id, cr.Dialect, p.Dialect)
			}
		}
		for j, m := range p.Models {
			d.want(m != "", "value", at(path+".models", j), "a model has no name")
		}
	}
	for alias, target := range o.Aliases {
		provider, model, ok := strings.Cut(target, "/")
		d.want(ok && model != "" && providers[provider], "reference", "$.aliases", "the alias %q stands for %q, which is not provider/model", alias, target)
		first, _, slash := strings.Cut(alias, "/")
		d.want(alias != "" && !(slash && providers[first]), "value", "$.aliases", "the alias %q would hide a model of a provider", alias)
	}
	l := o.Limits
	for name, n := range map[string]int64{"body_bytes": l.BodyBytes, "header_bytes": l.HeaderBytes, "concurrent_each": l.ConcurrentEach, "per_minute_each": l.PerMinuteEach} {
		d.within(n, unbounded, "$.limits."+name)
	}
	return d.done()
}

// checkCustodians holds a gateway's custodians against what its units enrol: each is named once, and all units that enrol one
// give it the same peer key, so that no unit can lead another's requests away.
func checkCustodians(g *Gateway, enrolled []Custodian, gateways set, path string, d *document) {
	for i, id := range g.Custodians {
		first := slices.IndexFunc(enrolled, func(k Custodian) bool { return k.ID == id })
		if !d.want(first >= 0 && slices.Index(g.Custodians, id) == i, "reference", at(path, i), "no unit of %s enrols the custodian %q, or it is named twice", g.ID, id) {
			continue
		}
		peer := enrolled[first].Peer
		same := !slices.ContainsFunc(enrolled, func(k Custodian) bool { return k.ID == id && k.Peer != peer })
		d.want(same, "key", at(path, i), "the units of %s give the custodian %s different peer keys", g.ID, id)
		d.want(peer == "" || !gateways[peer], "separation", at(path, i), "the custodian %s has the peer key of a gateway", id)
	}
}

// validOrigin reports whether s is scheme://host[:port] and nothing else.
func validOrigin(s, scheme string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") || s != strings.ToLower(s) {
		return false
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	return s == scheme+"://"+u.Host && !strings.ContainsAny(u.Host, "%\\ ") && isASCII(s)
}

// validPattern reports whether s is a path pattern: literal segments, "*" for one whole segment, "**" only at the end.
func validPattern(s string) bool {
	if !strings.HasPrefix(s, "/") || len(s) < 2 || !isASCII(s) || strings.ContainsAny(s, "%;?#\\\"") {
		return false
	}
	segments := strings.Split(s[1:], "/")
	for i, seg := range segments {
		star := strings.Contains(seg, "*") && seg != "*" && (seg != "**" || i < len(segments)-1)
		if seg == "" || seg == "." || seg == ".." || star {
			return false
		}
	}
	return true
}

// isASCII reports whether s has printable ASCII only, no space.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// isToken reports whether s is an HTTP token (RFC 9110, section 5.6.2) or empty.
func isToken(s string) bool {
	return isASCII(s) && !strings.ContainsAny(s, `"(),/:;<=>?@[\]{}`)
}

// validNotify reports whether s is an https URL, or an http one to this machine.
func validNotify(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && err == nil && addr.IsLoopback()
}

// validRecipient reports whether s has the form of an age X25519 recipient: "age1" and 58 characters of Bech32.
func validRecipient(s string) bool {
	rest, ok := strings.CutPrefix(s, "age1")
	return ok && len(rest) == 58 && strings.Trim(rest, "qpzry9x8gf2tvdw0s3jn54khce6mua7l") == ""
}

// statements lists what a set of this charter consists of, without the lock, and who may approve each.
func (c *Charter) statements() map[string]role {
	m := map[string]role{"charter": {"root", ""}, "operations": {"operations", ""}}
	for _, u := range c.Units {
		m["policy-"+u.ID], m["custody-"+u.ID] = role{"policy", u.ID}, role{"lifecycle", u.ID}
	}
	return m
}

// role is an owner role, or root; unit is empty for root and operations.
type role struct{ name, unit string }

func (r role) String() string {
	if r.unit == "" {
		return r.name
	}
	return fmt.Sprintf("%s of %s", r.name, r.unit)
}
