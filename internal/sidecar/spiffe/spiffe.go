// Package spiffe gets a workload's X.509-SVID and JWT-SVID from a SPIFFE Workload API. The command line alone links it: it brings
// gRPC, which no process of reeve's has.
package spiffe

import (
	"context"
	"fmt"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/sidecar"
)

// X509 opens a source of the workload's X.509-SVID, which follows the Workload API's rotations until ctx ends. It waits for the first
// one until then.
func X509(ctx context.Context, cfg sidecar.SPIFFE) (sidecar.Source, error) {
	options := []workloadapi.X509SourceOption{workloadapi.WithClientOptions(address(cfg)...)}
	if cfg.ID != "" {
		id, err := spiffeid.FromString(cfg.ID)
		if err != nil {
			return nil, fmt.Errorf("token.spiffe.id: %w", err)
		}
		options = append(options, workloadapi.WithDefaultX509SVIDPicker(func(all []*x509svid.SVID) *x509svid.SVID {
			for _, s := range all {
				if s.ID == id {
					return s
				}
			}
			return nil
		}))
	}
	source, err := workloadapi.NewX509Source(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("getting an X.509-SVID from the Workload API: %w", err)
	}
	context.AfterFunc(ctx, func() { source.Close() })
	return &svids{source: source}, nil
}

// svids signs with the newest X.509-SVID.
type svids struct {
	source *workloadapi.X509Source

	mu     sync.Mutex // guards what follows
	svid   *x509svid.SVID
	signer *pop.Signer
}

// Vouch implements sidecar.Source. A JWT-SVID beside it would be a bearer token in the gateway's hands: none is sent.
func (s *svids) Vouch(context.Context) (sidecar.Vouch, error) {
	svid, err := s.source.GetX509SVID()
	if err != nil || svid == nil {
		return sidecar.Vouch{}, fmt.Errorf("the Workload API has no such X.509-SVID: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if svid != s.svid {
		signer, err := pop.NewSVIDSigner(svid.PrivateKey, svid.Certificates)
		if err != nil {
			return sidecar.Vouch{}, fmt.Errorf("the X.509-SVID of %s: %w", svid.ID, err)
		}
		s.svid, s.signer = svid, signer
	}
	return sidecar.Vouch{Signer: s.signer}, nil
}

// JWT fetches a JWT-SVID at each call.
func JWT(cfg sidecar.SPIFFE) (sidecar.Fetch, error) {
	params := jwtsvid.Params{Audience: cfg.Audience}
	if cfg.ID != "" {
		id, err := spiffeid.FromString(cfg.ID)
		if err != nil {
			return nil, fmt.Errorf("token.spiffe.id: %w", err)
		}
		params.Subject = id
	}
	return func(ctx context.Context) (string, error) {
		svid, err := workloadapi.FetchJWTSVID(ctx, params, address(cfg)...)
		if err != nil {
			return "", fmt.Errorf("getting a JWT-SVID from the Workload API: %w", err)
		}
		return svid.Marshal(), nil
	}, nil
}

// address is the configured Workload API; without one the library takes the environment's.
func address(cfg sidecar.SPIFFE) []workloadapi.ClientOption {
	if cfg.Socket == "" {
		return nil
	}
	return []workloadapi.ClientOption{workloadapi.WithAddr(cfg.Socket)}
}
