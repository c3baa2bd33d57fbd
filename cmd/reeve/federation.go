package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/credential"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/federation"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newFederationCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "federation",
		Short: "How a unit's custodians say who they are, to providers of short-lived secrets",
	}
	cmd.AddCommand(newFederationKeyCmd(), newFederationShowCmd(), newFederationCheckCmd(), newFederationHelperCmd())
	return cmd
}

func newFederationKeyCmd() *cobra.Command {
	var custodian, algorithm, issuer, trustDomain, state, public string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "key UNIT",
		Short: "Make the unit's next key on this host, and print what its owners put into custody.yaml",
		Long: "Make a key that only this host's custodian can open, and print the federation part of the unit's custody.yaml with it beside the keys\n" +
			"that still hold. Nothing changes until the owners have signed and published that. Send the custodian SIGHUP: it signs with the new key as\n" +
			"soon as the statement names it. For a key that a helper has, give its public JWK. See docs/procedures/federation-keys.md.",
		Example: "  reeve federation key research --issuer https://id.acme.example/research --trust-domain acme.example\n  reeve federation key research --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			unit := args[0]
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			who, err := federating(set, unit, custodian)
			if err != nil {
				return failed(err)
			}
			f := statement.Federation{Issuer: issuer, TrustDomain: trustDomain}
			if now := set.Custody[unit].Federation; now != nil {
				if f.Keys = now.Keys; issuer == "" {
					f.Issuer = now.Issuer
				}
				if trustDomain == "" {
					f.TrustDomain = now.TrustDomain
				}
			}
			if f.Issuer == "" || f.TrustDomain == "" {
				return errors.New("the unit has no federation yet: say --issuer, an https URL below which you can publish two files, and --trust-domain")
			}
			if state == "" {
				state = d.Join(host.Custodian)
			}
			jwk, err := publicKey(public)
			if public == "" {
				jwk, err = federation.NewKey(filepath.Join(state, "federation"), unit, algorithm, who.Recipient)
			}
			if err != nil {
				return failed(err)
			}
			entry := federation.Entry(who.ID, jwk, time.Now())
			if public != "" {
				entry.Held = statement.HeldByHelper
			}
			f = federation.Add(f, entry, time.Now())
			b, err := yaml.MarshalWithOptions(map[string]any{"federation": f}, yaml.OmitZero(), yaml.IndentSequence(true))
			if err != nil {
				return err
			}
			if asJSON {
				var same any // the names are the statement's
				if err := yaml.Unmarshal(b, &same); err != nil {
					return err
				}
				return printJSON(cmd, same)
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print the same as JSON")
	flags.StringVar(&custodian, "custodian", "", "whose key it is; not needed where the unit has one custodian")
	flags.StringVar(&algorithm, "algorithm", "ES256", "ES256, or RS256 for providers that ask for it")
	flags.StringVar(&issuer, "issuer", "", "https URL below which the discovery document and the key set are published; for the first key")
	flags.StringVar(&trustDomain, "trust-domain", "", "SPIFFE trust domain of the tokens' subjects; for the first key")
	flags.StringVar(&state, "state", "", "the custodian's state_dir (default that of --dir)")
	flags.StringVar(&public, "public", "", "file with the public JWK of a key that a helper has, instead of making one")
	return cmd
}

// publicKey reads a JWK, on one line.
func publicKey(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	k := statement.FederationKey{JWK: strings.TrimSpace(string(b))}
	_, err = k.Parse()
	return k.JWK, err
}

// federating is the custodian of a unit whose key is meant.
func federating(set *statement.Set, unit, id string) (*statement.Custodian, error) {
	cu := set.Custody[unit]
	if cu == nil {
		return nil, cmp.Or(named(set, "unit", unit), fmt.Errorf("the unit %q has no custody statement", unit))
	}
	for i := range cu.Custodians {
		if k := &cu.Custodians[i]; k.ID == id || id == "" && len(cu.Custodians) == 1 {
			return k, nil
		}
	}
	return nil, fmt.Errorf("say with --custodian which of the custodians of %s this host's is", unit)
}

// federated is what people need to know of a unit's federation.
type federated struct {
	Unit            string       `json:"unit"`
	Issuer          string       `json:"issuer"`
	TrustDomain     string       `json:"trust_domain"`
	JWKSSHA256      string       `json:"jwks_sha256"`
	DiscoverySHA256 string       `json:"discovery_sha256"`
	Keys            []keyShown   `json:"keys"`
	Credentials     []trustShown `json:"credentials"`
}

type keyShown struct {
	ID        string    `json:"kid"`
	Custodian string    `json:"custodian"`
	Algorithm string    `json:"algorithm"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Flag      string    `json:"flag"` // mint: who has it can have secrets made
}

type trustShown struct {
	Credential string `json:"credential"`
	Exchange   string `json:"exchange"`
	Subject    string `json:"subject"`
	Audience   string `json:"audience"`
}

// showFederation puts together what is shown of a unit.
func showFederation(set *statement.Set, unit string) (*federated, *statement.Federation, error) {
	if err := named(set, "unit", unit); err != nil {
		return nil, nil, err
	}
	cu := set.Custody[unit]
	if cu == nil || cu.Federation == nil {
		return nil, nil, fmt.Errorf("the published custody statement of %q has no federation; `reeve federation key` begins one", unit)
	}
	f := cu.Federation
	s := &federated{Unit: unit, Issuer: f.Issuer, TrustDomain: f.TrustDomain, JWKSSHA256: f.JWKSSHA256, DiscoverySHA256: f.DiscoverySHA256}
	for _, k := range f.Keys {
		key, err := k.Parse()
		if err != nil {
			return nil, nil, err
		}
		s.Keys = append(s.Keys, keyShown{key.ID, k.Custodian, key.Algorithms[0], k.NotBefore, k.NotAfter, "mint"})
	}
	for _, c := range cu.Credentials {
		if c.Source != "federation" {
			continue
		}
		c, err := custody.Read(c)
		if err != nil {
			return nil, nil, err
		}
		id := credential.IdentityOf(cu, &c)
		s.Credentials = append(s.Credentials, trustShown{c.ID, c.From.Parameters["exchange"], id.Subject, id.Audience})
	}
	return s, f, nil
}

func newFederationShowCmd() *cobra.Command {
	var asJSON bool
	var out string
	cmd := &cobra.Command{
		Use:   "show UNIT",
		Short: "What a unit publishes, and what its providers have to be told",
		Long: "Show the unit's federation as its owners signed it: the two files to publish or upload with their hashes, the keys with their times, and for\n" +
			"each credential the subject and audience that the provider's trust rule names. With --out the files are written, to the byte.",
		Example: "  reeve federation show research --out ./public",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			s, f, err := showFederation(set, args[0])
			if err != nil {
				return failed(err)
			}
			if out != "" {
				for name, content := range map[string][]byte{"jwks.json": f.JWKS(), filepath.Join(".well-known", "openid-configuration"): f.Discovery()} {
					path := filepath.Join(out, name)
					if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), durable.Replace(path, content, 0o644)); err != nil {
						return failed(err)
					}
				}
			}
			if asJSON {
				return printJSON(cmd, s)
			}
			w := cmd.OutOrStdout()
			terminal.Printf(w, "Publish, or upload where the provider takes a key set:\n  %s/jwks.json  sha256 %s\n  %s/.well-known/openid-configuration  sha256 %s\n\n",
				s.Issuer, s.JWKSSHA256, s.Issuer, s.DiscoverySHA256)
			t := table.New(w)
			fmt.Fprintln(t, "KEY\tCUSTODIAN\tALGORITHM\tSIGNS FROM\tUNTIL\tCAN")
			for _, k := range s.Keys {
				terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Custodian, k.Algorithm, k.NotBefore.Format(time.DateOnly), k.NotAfter.Format(time.DateOnly), k.Flag)
			}
			fmt.Fprintln(t, "\nCREDENTIAL\tAT\tSUBJECT\tAUDIENCE\t\t")
			for _, c := range s.Credentials {
				terminal.Printf(t, "%s\t%s\t%s\t%s\t\t\n", c.Credential, c.Exchange, c.Subject, c.Audience)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder to write the two files to")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newFederationCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check UNIT",
		Short: "Whether what is published at the issuer is what the owners signed",
		Long: "Fetch the two files from the unit's issuer and hold their hashes against the custody statement. Status 1: something else is published, and\n" +
			"a provider may trust keys that are not the unit's. Status 3: it could not be fetched; an issuer whose key set is only uploaded publishes nothing.",
		Example: "  reeve federation check research",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			s, _, err := showFederation(set, args[0])
			if err != nil {
				return failed(err)
			}
			type found struct {
				URL    string `json:"url"`
				SHA256 string `json:"sha256"`
				Holds  bool   `json:"holds"`
			}
			var all []found
			for path, want := range map[string]string{"/jwks.json": s.JWKSSHA256, "/.well-known/openid-configuration": s.DiscoverySHA256} {
				sum, err := fetched(cmd.Context(), s.Issuer+path)
				if err != nil {
					return &exitError{exitUndecided, fmt.Errorf("%s cannot be fetched: %w", s.Issuer+path, err)}
				}
				all = append(all, found{s.Issuer + path, sum, sum == want})
			}
			holds := true
			for _, f := range all {
				holds = holds && f.Holds
				if !asJSON {
					terminal.Printf(cmd.OutOrStdout(), "%s: %s\n", f.URL, map[bool]string{true: "as signed", false: "NOT as signed, sha256 " + f.SHA256}[f.Holds])
				}
			}
			if asJSON {
				if err := printJSON(cmd, all); err != nil {
					return err
				}
			}
			if !holds {
				return &exitError{status: exitNot}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// fetched is the hash of a small file on the web. A redirect is not followed.
func fetched(ctx context.Context, url string) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 256<<10))
	return new(statement.Federation).Sum(b), err
}

func newFederationHelperCmd() *cobra.Command {
	var socket, keys, device, unit, algorithm string
	cmd := &cobra.Command{
		Use:   "helper",
		Short: "Keeps federation keys in a TPM and gives signatures over a Unix socket",
		Long: "Serve the protocol of docs/formats/helper.md with keys that a TPM 2.0 made and that never leave it. The folder has what only that TPM can use.\n" +
			"Without --tpm the keys are in the folder's files: an example, and for tests. For a PKCS #11 token or a key service put a helper of your own in its\n" +
			"place. Run it as another user than the custodian's. With --make it makes a key, prints the public JWK for reeve federation key --public, and ends.",
		Example: "  reeve federation helper --tpm /dev/tpmrm0 --keys /var/lib/reeve-helper --make research > research.jwk\n" +
			"  reeve federation helper --tpm /dev/tpmrm0 --keys /var/lib/reeve-helper --socket /run/reeve-helper/helper.sock",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keys == "" || (socket == "") == (unit == "") {
				return errors.New("--keys, and either --socket to serve or --make UNIT")
			}
			h, err := federation.NewHelper(keys, device)
			if err != nil {
				return failed(err)
			}
			if unit != "" {
				jwk, err := h.NewKey(unit, algorithm)
				if err != nil {
					return failed(err)
				}
				terminal.Printf(cmd.OutOrStdout(), "%v\n", jwk)
				return nil
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			l, err := net.Listen("unix", socket)
			if err != nil {
				return failed(err)
			}
			h.Serve(ctx, l) // ends with ctx
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&keys, "keys", "", "folder of the keys")
	flags.StringVar(&device, "tpm", "", "TPM 2.0 that has the keys: a device, or the Unix socket of one in software; default: files")
	flags.StringVar(&socket, "socket", "", "Unix socket to serve on")
	flags.StringVar(&unit, "make", "", "make a key for a unit")
	flags.StringVar(&algorithm, "algorithm", "ES256", "ES256 or RS256, of a key that is made")
	return cmd
}
