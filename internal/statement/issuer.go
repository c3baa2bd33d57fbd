package statement

import (
	"crypto/x509"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/workload/jwks"
)

// Issuer vouches for workloads with signed tokens (JWT), or, for a SPIFFE trust domain, with X.509-SVIDs. Its keys come from
// the charter or from the issuer itself, never from reeve's authority.
type Issuer struct {
	ID     string `yaml:"id"`
	Issuer string `yaml:"issuer"` // exact iss claim, an https URL; or spiffe://<trust domain>, for SVIDs without iss
	// JWKS is the issuer's key set (RFC 7517) as JSON text. A SPIFFE bundle is one: its x509-svid keys are the roots of X.509-SVIDs.
	JWKS string `yaml:"jwks"`
	// Discovery has the keys fetched from the issuer (OpenID Connect Discovery 1.0), by each custodian and gateway for itself.
	Discovery  bool     `yaml:"discovery"`
	CA         string   `yaml:"ca"`         // PEM, for discovery: roots besides the system's
	Networks   []string `yaml:"networks"`   // for discovery: private networks that may be dialled, such as 10.0.0.0/8
	Algorithms []string `yaml:"algorithms"` // that its tokens may be signed with: EdDSA, ES256, ES384, RS256, PS256
}

// The two issuers that every charter has, as a workload's identities name them.
const (
	IssuerReeve     = "reeve"     // W0 keys, registered as signed records
	IssuerAuthority = "authority" // the authority's access tokens without anybody else's word: marked as asserted by it
)

// Identity is one way for a workload to prove who it is.
type Identity struct {
	Issuer   string `yaml:"issuer"`   // id of an issuer of the charter, reeve, or authority; the last two have neither audience nor subject
	Audience string `yaml:"audience"` // exact: one of the token's aud
	// Subject is the token's sub: segments between ":" and "/", each literal or * for one whole segment. The first two that are not
	// empty are literal: an issuer that serves everybody, such as GitHub, would vouch for everybody otherwise.
	Subject string `yaml:"subject"`
}

// VouchedBy reports whether the charter lets the issuer, by its id, vouch for the workload.
func (w *Workload) VouchedBy(issuer string) bool {
	return slices.ContainsFunc(w.Identities, func(i Identity) bool { return i.Issuer == issuer })
}

// MatchSubject reports whether a token's subject is one that the pattern means.
func MatchSubject(pattern, subject string) bool {
	for {
		p, pRest, pEnd := segment(pattern)
		s, sRest, sEnd := segment(subject)
		switch {
		case pEnd != sEnd, p != s && (p != "*" || s == ""):
			return false
		case pEnd == 0:
			return true
		}
		pattern, subject = pRest, sRest
	}
}

// segment cuts a subject after its first segment; end is the separator, or 0 at the end.
func segment(s string) (first, rest string, end byte) {
	if i := strings.IndexAny(s, ":/"); i >= 0 {
		return s[:i], s[i+1:], s[i]
	}
	return s, "", 0
}

// overlap reports whether two patterns have a subject in common.
func overlap(a, b string) bool {
	for {
		x, aRest, aEnd := segment(a)
		y, bRest, bEnd := segment(b)
		switch {
		case aEnd != bEnd, x != y && x != "*" && y != "*", x == "*" && y == "", y == "*" && x == "":
			return false
		case aEnd == 0:
			return true
		}
		a, b = aRest, bRest
	}
}

// validSubject reports whether a pattern is printable, bounded, and literal where it must be.
func validSubject(pattern string) bool {
	if len(pattern) == 0 || len(pattern) > 512 || strings.ContainsFunc(pattern, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return false
	}
	literal := 0
	for rest, end := pattern, byte(1); end != 0; {
		var s string
		s, rest, end = segment(rest)
		switch {
		case s == "*" && literal < 2, s != "*" && strings.Contains(s, "*"):
			return false
		case s != "" && s != "*":
			literal++
		}
	}
	return true
}

// validNetworks reports whether each is a network of whole bits.
func validNetworks(list []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err != nil || p != p.Masked()
	})
}

// checkIssuers holds issuers and identities against each other.
func checkIssuers(c *Charter, d *document) {
	ids, urls := set{IssuerReeve: true, IssuerAuthority: true}, set{}
	for i := range c.Issuers {
		s, p := &c.Issuers[i], at("$.issuers", i)
		d.id(ids, s.ID, p+".id")
		d.want(!urls[s.Issuer], "value", p+".issuer", "two issuers have the same iss, %q", s.Issuer)
		urls[s.Issuer] = true
		checkIssuer(s, p, d)
	}
	if a := c.Authority.Issuer; a != "" {
		u, err := url.Parse(a)
		ok := err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && !strings.ContainsAny(a, "?# \\%")
		d.want(ok && !urls[a], "value", "$.authority.issuer", "%q is not a public URL, or is that of another issuer", a)
	}
	type door struct{ issuer, audience string }
	exact, patterns := map[door]map[string]string{}, map[door][]string{} // subject to workload; the subjects that are patterns
	for i := range c.Workloads {
		w, p := &c.Workloads[i], at("$.workloads", i)
		d.want(len(w.Identities) > 0, "value", p, "nobody may vouch for the workload %q", w.ID)
		for j, id := range w.Identities {
			path := at(p+".identities", j)
			d.want(ids[id.Issuer], "reference", path+".issuer", "%q is not an issuer of the charter, nor %s or %s", id.Issuer, IssuerReeve, IssuerAuthority)
			if id.Issuer == IssuerReeve || id.Issuer == IssuerAuthority {
				d.want(id.Audience == "" && id.Subject == "", "value", path, "an identity by %s has neither audience nor subject", id.Issuer)
				continue
			}
			d.want(id.Audience != "" && len(id.Audience) <= 512 && !strings.Contains(id.Audience, "*"), "value", path+".audience", "%q is not an exact audience", id.Audience)
			d.want(validSubject(id.Subject), "value", path+".subject", "%q is not a subject: literal segments between : and /, * for one whole segment, but not for the first two", id.Subject)
			k := door{id.Issuer, id.Audience}
			if exact[k] == nil {
				exact[k] = map[string]string{}
			}
			other := exact[k][id.Subject]
			for _, q := range patterns[k] {
				if overlap(id.Subject, q) {
					other = exact[k][q]
				}
			}
			if strings.Contains(id.Subject, "*") {
				for q, of := range exact[k] {
					if overlap(id.Subject, q) {
						other = of
					}
				}
				patterns[k] = append(patterns[k], id.Subject)
			}
			d.want(other == "" || other == w.ID, "separation", path, "a token could be both %s and %s", other, w.ID)
			exact[k][id.Subject] = w.ID
		}
	}
}

func checkIssuer(s *Issuer, p string, d *document) {
	u, err := url.Parse(s.Issuer)
	ok := err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && !strings.ContainsAny(s.Issuer, "?# \\%")
	d.want(ok && (u.Scheme == "https" || u.Scheme == "spiffe" && u.Path == "" && u.Port() == ""), "value", p+".issuer", "%q is not an issuer: an https URL without query, or spiffe://<trust domain>", s.Issuer)
	d.want((s.JWKS != "") != s.Discovery, "value", p, "the issuer %s has its keys either in jwks or by discovery", s.ID)
	d.want(!s.Discovery || strings.HasPrefix(s.Issuer, "https://"), "value", p+".discovery", "only an https issuer can be asked for its keys")
	d.want(s.Discovery || s.CA == "" && len(s.Networks) == 0, "value", p, "ca and networks are for discovery")
	if s.JWKS != "" {
		_, err := jwks.Parse([]byte(s.JWKS))
		d.want(err == nil, "key", p+".jwks", "%v", err)
	}
	d.want(s.CA == "" || x509.NewCertPool().AppendCertsFromPEM([]byte(s.CA)), "value", p+".ca", "the CA holds no certificate in PEM")
	d.want(validNetworks(s.Networks), "value", p+".networks", "%q are not networks such as 10.0.0.0/8", s.Networks)
	d.want(len(s.Algorithms) > 0, "value", p, "the issuer %s names no algorithms", s.ID)
	for i, a := range s.Algorithms {
		d.oneOf(a, at(p+".algorithms", i), jwks.Algorithms()...)
	}
}
