package sidecar

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/reevehq/reeve/internal/estate/estatetest"
)

// workloadAPI is a small SPIFFE Workload API of this test, not SPIRE's: X.509-SVIDs and JWT-SVIDs for whoever asks on its socket.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	*testing.T
	issuer *estatetest.Issuer
	rotate chan struct{} // the next X.509-SVID is sent
}

// serve serves the API on a socket and returns its address.
func (w *workloadAPI) serve(folder string) string {
	path := filepath.Join(folder, "spiffe.sock")
	l, err := net.Listen("unix", path)
	must(w.T, err)
	s := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(s, w)
	go s.Serve(l)
	w.Cleanup(s.Stop)
	return "unix://" + path
}

// known refuses who does not say that it means this API: what makes a browser do so would not (SPIFFE Workload Endpoint, section 7).
func known(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("workload.spiffe.io"); len(v) != 1 || v[0] != "true" {
		return status.Error(codes.InvalidArgument, "no workload.spiffe.io")
	}
	return nil
}

func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if err := known(stream.Context()); err != nil {
		return err
	}
	for {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		leaf := w.issuer.SVID(spiffeID, key.Public(), nil)
		if err := stream.Send(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{{SpiffeId: spiffeID, X509Svid: leaf.Raw, X509SvidKey: der, Bundle: w.issuer.Root().Raw}}}); err != nil {
			return err
		}
		select {
		case <-w.rotate:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (w *workloadAPI) FetchJWTSVID(ctx context.Context, r *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	if err := known(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	token := w.issuer.Sign(jose.ES256, map[string]any{"sub": spiffeID, "aud": r.Audience, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}, map[jose.HeaderKey]any{"typ": "JWT"})
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{SpiffeId: spiffeID, Svid: string(token)}}}, nil
}

// spiffe: an X.509-SVID signs each request (W2), also after it was rotated; a JWT-SVID is a token (W1).
func spiffe(s *site) {
	api := &workloadAPI{T: s.T, issuer: s.issuer, rotate: make(chan struct{})}
	address := api.serve(s.root)
	const own = "key: research-agent.key\ntoken:\n  own:\n    issuer: https://research-agent.demo.invalid\n    audience: reeve:demo\n"
	c := s.sidecar(s.config(own, "token:\n  spiffe:\n    socket: "+address+"\n"))
	for range 2 {
		code, receipt, refusal := c.post(large)
		if code != http.StatusOK {
			s.Fatalf("X.509-SVID: %d %s", code, refusal)
		}
		s.mustProve("X.509-SVID", receipt)
		api.rotate <- struct{}{}
	}

	c = s.sidecar(s.config(own, "token:\n  spiffe:\n    socket: "+address+"\n    audience: reeve:demo\n"))
	if code, _, refusal := c.post(large); code != http.StatusForbidden || refusal != "policy_denied" {
		s.Errorf("JWT-SVID where level 2 is wanted: %d %s", code, refusal)
	}
	code, receipt, refusal := c.post(`{"model":"openai/demo-small","messages":[{"role":"user","content":"one two"}]}`)
	if code != http.StatusOK {
		s.Fatalf("JWT-SVID: %d %s", code, refusal)
	}
	if e := s.entry(receipt); e.Type != "intent" || e.Level != "W1" || e.Proof != "token" || e.Workload != "research-agent" {
		s.Errorf("JWT-SVID: %+v", e)
	}
}
