// Command provider is a security key in software: the library that OpenSSH loads in place of one (SSH_SK_PROVIDER; OpenSSH's
// PROTOCOL.u2f and sk-api.h, version 10). The key handle is the private key. It is touched and verified whenever it is asked.
package main

/*
#include <stdint.h>
#include <stdlib.h>

struct sk_enroll_response {
	uint8_t flags;
	uint8_t *public_key; size_t public_key_len;
	uint8_t *key_handle; size_t key_handle_len;
	uint8_t *signature; size_t signature_len;
	uint8_t *attestation_cert; size_t attestation_cert_len;
	uint8_t *authdata; size_t authdata_len;
};
struct sk_sign_response {
	uint8_t flags;
	uint32_t counter;
	uint8_t *sig_r; size_t sig_r_len;
	uint8_t *sig_s; size_t sig_s_len;
};
struct sk_option { char *name; char *value; uint8_t required; };
*/
import "C"

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"unsafe"
)

const (
	version     = 0x000a0000 // of the interface
	algECDSA    = 0
	algEd25519  = 1
	general     = -1
	unsupported = -2
)

func main() {}

//export sk_api_version
func sk_api_version() C.uint32_t { return version }

//export sk_enroll
func sk_enroll(alg C.uint32_t, challenge *C.uint8_t, challengeLen C.size_t, application *C.char, flags C.uint8_t, pin *C.char, options **C.struct_sk_option, response **C.struct_sk_enroll_response) C.int {
	var public, handle []byte
	switch alg {
	case algEd25519:
		pub, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return general
		}
		public, handle = pub, private.Seed()
	case algECDSA:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return general
		}
		if public, err = private.PublicKey.Bytes(); err != nil {
			return general
		}
		if handle, err = private.Bytes(); err != nil {
			return general
		}
	default:
		return unsupported
	}
	r := (*C.struct_sk_enroll_response)(C.calloc(1, C.sizeof_struct_sk_enroll_response))
	r.flags = flags
	r.public_key, r.public_key_len = give(public)
	r.key_handle, r.key_handle_len = give(handle)
	r.signature, r.signature_len = give([]byte{0})
	*response = r
	return 0
}

//export sk_sign
func sk_sign(alg C.uint32_t, data *C.uint8_t, dataLen C.size_t, application *C.char, handle *C.uint8_t, handleLen C.size_t, flags C.uint8_t, pin *C.char, options **C.struct_sk_option, response **C.struct_sk_sign_response) C.int {
	app := sha256.Sum256([]byte(C.GoString(application)))
	hash := sha256.Sum256(C.GoBytes(unsafe.Pointer(data), C.int(dataLen)))
	secret := C.GoBytes(unsafe.Pointer(handle), C.int(handleLen))
	const counter = 23
	signed := binary.BigEndian.AppendUint32(append(app[:], byte(flags)), counter)
	signed = append(signed, hash[:]...)
	r := (*C.struct_sk_sign_response)(C.calloc(1, C.sizeof_struct_sk_sign_response))
	r.flags, r.counter = flags, counter
	switch alg {
	case algEd25519:
		r.sig_r, r.sig_r_len = give(ed25519.Sign(ed25519.NewKeyFromSeed(secret), signed))
	case algECDSA:
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret)
		if err != nil {
			return general
		}
		sum := sha256.Sum256(signed)
		a, b, err := ecdsa.Sign(rand.Reader, private, sum[:])
		if err != nil {
			return general
		}
		r.sig_r, r.sig_r_len = give(a.Bytes())
		r.sig_s, r.sig_s_len = give(b.Bytes())
	default:
		return unsupported
	}
	*response = r
	return 0
}

//export sk_load_resident_keys
func sk_load_resident_keys(pin *C.char, options **C.struct_sk_option, keys unsafe.Pointer, count *C.size_t) C.int {
	return unsupported
}

// give copies bytes to memory that the caller frees.
func give(b []byte) (*C.uint8_t, C.size_t) { return (*C.uint8_t)(C.CBytes(b)), C.size_t(len(b)) }
