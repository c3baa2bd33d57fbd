package federation

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// tpm is a store whose keys are made in a TPM 2.0 and never leave it: what is in the files is encrypted by the TPM's own storage key
// (TPM 2.0 Library, part 1, section 23) and is of use in no other. Keys are fixed to it, sign only, and ask for no password.
type tpm struct {
	device string
	mu     sync.Mutex // one conversation at a time
}

func (*tpm) suffix() string { return ".tpm" }

// blob is the file of a key: TPM2B_PUBLIC and TPM2B_PRIVATE (part 2, sections 12.2.5 and 12.3.7).
type blob struct {
	Public  []byte `json:"public"`
	Private []byte `json:"private"`
}

// with opens the device for one conversation, in which the storage key is loaded.
func (t *tpm) with(f func(transport.TPM, tpm2.NamedHandle) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var device io.ReadWriteCloser
	info, err := os.Stat(t.device)
	switch {
	case err != nil:
	case info.Mode()&os.ModeSocket != 0:
		device, err = net.Dial("unix", t.device)
	default:
		device, err = os.OpenFile(t.device, os.O_RDWR, 0)
	}
	if err != nil {
		return fmt.Errorf("the TPM cannot be opened: %w", err)
	}
	defer device.Close()
	conn := transport.FromReadWriter(device)
	storage, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(conn)
	if err != nil {
		return fmt.Errorf("the TPM gives no storage key: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: storage.ObjectHandle}.Execute(conn)
	return f(conn, tpm2.NamedHandle{Handle: storage.ObjectHandle, Name: storage.Name})
}

// template is a key that is made in the TPM, stays there and signs digests.
func template(algorithm string) (p tpm2.TPMTPublic, err error) {
	p = tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true,
	}}
	switch algorithm {
	case "ES256":
		p.Type = tpm2.TPMAlgECC
		p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256,
		})
	case "RS256":
		p.Type = tpm2.TPMAlgRSA
		p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{ // 2048 is what every TPM has
			Scheme:  tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
			KeyBits: 2048,
		})
	default:
		err = fmt.Errorf("a federation key is for ES256 or RS256, not for %q", algorithm)
	}
	return p, err
}

func (t *tpm) create(algorithm string) (opaque []byte, public crypto.PublicKey, err error) {
	like, err := template(algorithm)
	if err != nil {
		return nil, nil, err
	}
	err = t.with(func(conn transport.TPM, storage tpm2.NamedHandle) error {
		made, err := tpm2.Create{ParentHandle: storage, InPublic: tpm2.New2B(like)}.Execute(conn)
		if err != nil {
			return fmt.Errorf("the TPM makes no key: %w", err)
		}
		opaque, err = json.Marshal(blob{tpm2.Marshal(made.OutPublic), tpm2.Marshal(made.OutPrivate)})
		return err
	})
	if err == nil {
		public, _, err = t.public(opaque)
	}
	return opaque, public, err
}

// open reads a key's file.
func open(opaque []byte) (b blob, public *tpm2.TPM2BPublic, what *tpm2.TPMTPublic, err error) {
	if err = json.Unmarshal(opaque, &b); err == nil {
		if public, err = tpm2.Unmarshal[tpm2.TPM2BPublic](b.Public); err == nil {
			what, err = public.Contents()
		}
	}
	return b, public, what, err
}

func (*tpm) public(opaque []byte) (key crypto.PublicKey, algorithm string, err error) {
	_, _, what, err := open(opaque)
	if err != nil {
		return nil, "", err
	}
	key, err = tpm2.Pub(*what)
	if algorithm = "ES256"; what.Type == tpm2.TPMAlgRSA {
		algorithm = "RS256"
	}
	return key, algorithm, err
}

func (t *tpm) sign(opaque, digest []byte) (out []byte, err error) {
	b, public, _, err := open(opaque)
	if err != nil {
		return nil, err
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](b.Private)
	if err != nil {
		return nil, err
	}
	err = t.with(func(conn transport.TPM, storage tpm2.NamedHandle) error {
		key, err := tpm2.Load{ParentHandle: storage, InPrivate: *private, InPublic: *public}.Execute(conn)
		if err != nil {
			return fmt.Errorf("the TPM does not take the key, which another one made: %w", err)
		}
		defer tpm2.FlushContext{FlushHandle: key.ObjectHandle}.Execute(conn)
		signed, err := tpm2.Sign{
			KeyHandle: tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, Digest: tpm2.TPM2BDigest{Buffer: digest},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(conn)
		if err != nil {
			return fmt.Errorf("the TPM does not sign: %w", err)
		}
		out, err = signature(&signed.Signature)
		return err
	})
	return out, err
}

// signature is a TPM's signature as JWS has it.
func signature(s *tpm2.TPMTSignature) ([]byte, error) {
	if s.SigAlg == tpm2.TPMAlgRSASSA {
		rsa, err := s.Signature.RSASSA()
		if err != nil {
			return nil, err
		}
		return rsa.Sig.Buffer, nil
	}
	ecc, err := s.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	r, v := ecc.SignatureR.Buffer, ecc.SignatureS.Buffer
	if len(r) > 32 || len(v) > 32 {
		return nil, errors.New("the TPM's signature is not one of P-256")
	}
	out := make([]byte, 64)
	copy(out[32-len(r):], r)
	copy(out[64-len(v):], v)
	return out, nil
}
