package usage

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/usage/export"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// Mapping says which credential each of a provider's ids stands for: a key, a project or workspace that has one credential only, an access key, a
// role, a path.
type Mapping map[string]string

// ReadMapping reads a mapping file: credentials with the provider's ids of each, in YAML.
//
//	research-openai: [key_abc, key_def]
//	lab-anthropic: [apikey_01]
func ReadMapping(r io.Reader) (Mapping, error) {
	const most = 4 << 20
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if len(b) > most {
		return nil, fmt.Errorf("the mapping has more than %d MiB", most>>20)
	}
	var by map[string][]string
	if err := yaml.UnmarshalWithOptions(b, &by, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("the mapping is not a list of ids for each credential: %w", err)
	}
	m := Mapping{}
	for credential, keys := range by {
		for _, k := range keys {
			if other, ok := m[k]; ok && other != credential {
				return nil, fmt.Errorf("the mapping has %s under both %s and %s", k, min(other, credential), max(other, credential))
			}
			m[k] = credential
		}
	}
	return m, nil
}

// Known is what the custody statements say by themselves: the project of an OpenAI key source, the path of a Vault source, the role of a federation
// with AWS. An id that stands for two credentials is left out.
func Known(spans []*history.Span) Mapping {
	m, twice := Mapping{}, map[string]bool{}
	for _, s := range spans {
		for _, u := range s.Custody {
			for i := range u.Credentials {
				c := u.Credentials[i]
				if full, err := custody.Fill(c); err == nil { // with what its template says
					c = full
				}
				k, id := known(&c), c.ID
				if k == "" {
					continue
				}
				if other, ok := m[k]; ok && other != id {
					twice[k] = true
				}
				m[k] = id
			}
		}
	}
	for k := range twice {
		delete(m, k)
	}
	return m
}

func known(c *statement.Credential) string {
	p := c.From.Parameters
	switch c.Source {
	case "openai-key":
		return p["project"]
	case "federation":
		return p["role_arn"]
	case "vault":
		if u, err := url.Parse(c.From.URL); err == nil {
			if _, path, ok := strings.Cut(u.Path, "/v1/"); ok {
				return export.Path(p["namespace"], path)
			}
		}
	}
	return ""
}

// of is the credential that the first known id stands for.
func (m Mapping) of(keys []string) (credential string, ok bool) {
	i := slices.IndexFunc(keys, func(k string) bool { return m[k] != "" })
	if i < 0 {
		return "", false
	}
	return m[keys[i]], true
}

// With is m and, where m is silent, o.
func (m Mapping) With(o Mapping) Mapping {
	all := Mapping{}
	for k, c := range o {
		all[k] = c
	}
	for k, c := range m {
		all[k] = c
	}
	return all
}
