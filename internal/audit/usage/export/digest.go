package export

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// File is one file of a trail as it lay in its bucket. A digest's signature, which is its object's metadata x-amz-meta-signature, is a file of the
// same name with .sig behind it, in hex.
type File struct {
	Name  string
	Bytes []byte
}

// digest is a digest file. (docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-digest-file-structure.html)
type digest struct {
	Start       time.Time `json:"digestStartTime"`
	End         string    `json:"digestEndTime"` // signed as it is written
	Bucket      string    `json:"digestS3Bucket"`
	Object      string    `json:"digestS3Object"`
	Fingerprint string    `json:"digestPublicKeyFingerprint"`
	Algorithm   string    `json:"digestSignatureAlgorithm"`
	PrevObject  *string   `json:"previousDigestS3Object"`
	PrevHash    *string   `json:"previousDigestHashValue"`
	PrevSig     *string   `json:"previousDigestSignature"`
	Logs        []struct {
		Object    string `json:"s3Object"`
		Hash      string `json:"hashValue"` // hex SHA-256 of the unpacked log file
		Algorithm string `json:"hashAlgorithm"`
	} `json:"logFiles"`

	sum  string // hex SHA-256 of the unpacked digest file
	end  time.Time
	name string
}

// trail is the files of one trail, unpacked.
type trail struct {
	logs    []File
	digests []*digest // by time
	sigs    map[string]string
	keys    map[string]*rsa.PublicKey // by fingerprint
}

func newTrail(files []File, keys []byte) (*trail, error) {
	t := &trail{sigs: map[string]string{}, keys: map[string]*rsa.PublicKey{}}
	if err := t.readKeys(keys); err != nil {
		return nil, err
	}
	left := MaxFile
	for _, f := range files {
		if name, ok := strings.CutSuffix(path.Base(f.Name), ".sig"); ok {
			t.sigs[name] = strings.TrimSpace(string(f.Bytes))
			continue
		}
		b, err := unpack(f, left)
		if err != nil {
			return nil, err
		}
		left -= len(b)
		var d digest
		if !bytes.Contains(b, []byte(`"digestS3Object"`)) {
			t.logs = append(t.logs, File{path.Base(f.Name), b})
			continue
		}
		if err := json.Unmarshal(b, &d); err != nil {
			return nil, no("%s: %v", f.Name, err)
		}
		if d.Object == "" {
			t.logs = append(t.logs, File{path.Base(f.Name), b}) // an event that speaks of a digest
			continue
		}
		if d.end, err = time.Parse(time.RFC3339, d.End); err != nil || d.Bucket == "" {
			return nil, no("%s is a digest file without digestEndTime and digestS3Bucket", f.Name)
		}
		d.sum, d.name = hexSum(b), path.Base(d.Object)
		t.digests = append(t.digests, &d)
	}
	if len(t.logs) == 0 {
		return nil, no("there is no log file among the files")
	}
	slices.SortFunc(t.digests, func(a, b *digest) int { return cmp.Or(a.end.Compare(b.end), cmp.Compare(a.Object, b.Object)) })
	return t, nil
}

// readKeys reads what list-public-keys prints: PKCS #1 in DER, in base64.
func (t *trail) readKeys(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var list struct {
		Keys []struct {
			Value       string `json:"Value"`
			Fingerprint string `json:"Fingerprint"`
		} `json:"PublicKeyList"`
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.Keys) == 0 {
		return no("the public keys are not what `aws cloudtrail list-public-keys` prints: %v", err)
	}
	for _, k := range list.Keys {
		der, err := base64.StdEncoding.DecodeString(k.Value)
		if err != nil {
			return no("the public key %s: %v", k.Fingerprint, err)
		}
		if t.keys[k.Fingerprint], err = x509.ParsePKCS1PublicKey(der); err != nil {
			return no("the public key %s: %v", k.Fingerprint, err)
		}
	}
	return nil
}

// check says what is altered, missing or unsigned, a sentence each.
func (t *trail) check() (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if len(t.digests) == 0 || len(t.keys) == 0 {
		say("the log files were not checked: that takes the trail's digest files and the public keys that signed them")
		return wrong
	}
	here := map[string]string{} // sum by log file
	for _, f := range t.logs {
		here[f.Name] = hexSum(f.Bytes)
	}
	listed := map[string]bool{}
	for i, d := range t.digests {
		if why := t.signed(i); why != "" {
			say("the digest %s %s", d.name, why)
		}
		if i > 0 {
			before := t.digests[i-1]
			if d.PrevObject == nil || *d.PrevObject != before.Object {
				say("between the digests %s and %s there is a gap: others are missing, or the trail stopped", before.name, d.name)
			} else if d.PrevHash == nil || *d.PrevHash != before.sum {
				say("the digest %s is not the one that its successor names: it was altered", before.name)
			}
		}
		for _, l := range d.Logs {
			name := path.Base(l.Object)
			listed[name] = true
			if sum, ok := here[name]; !ok {
				say("the log file %s is missing", name)
			} else if sum != l.Hash || l.Algorithm != "SHA-256" {
				say("the log file %s is not the one that was delivered: it was altered", name)
			}
		}
	}
	for _, f := range t.logs {
		if !listed[f.Name] {
			say("no digest names the log file %s", f.Name)
		}
	}
	return wrong
}

// signed checks a digest's signature, which is beside it or in its successor: RSA PKCS #1 v1.5 with SHA-256 over its end, its place, its hash and the
// signature of the one before it, a line each.
func (t *trail) signed(i int) (why string) {
	d := t.digests[i]
	text := t.sigs[path.Base(d.Object)]
	if text == "" && i+1 < len(t.digests) && t.digests[i+1].PrevSig != nil {
		text = *t.digests[i+1].PrevSig
	}
	key, sig, err := t.keys[d.Fingerprint], []byte(nil), error(nil)
	if sig, err = hex.DecodeString(text); err != nil || len(sig) == 0 {
		return "has no signature: save x-amz-meta-signature of its object as " + path.Base(d.Object) + ".sig"
	}
	if key == nil || d.Algorithm != "SHA256withRSA" {
		return "is signed with a key that was not given: " + d.Fingerprint
	}
	prev := "null"
	if d.PrevSig != nil {
		prev = *d.PrevSig
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s/%s\n%s\n%s", d.End, d.Bucket, d.Object, d.sum, prev))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) != nil {
		return "has a wrong signature: it was altered"
	}
	return ""
}

// unpack takes gzip off, if it is there.
func unpack(f File, most int) ([]byte, error) {
	b := f.Bytes
	if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, no("%s: %v", f.Name, err)
		}
		if b, err = read(z); err != nil {
			return nil, no("%s: %v", f.Name, err)
		}
	}
	if len(b) > most {
		return nil, no("the files have more than %d MiB; export less at a time", MaxFile>>20)
	}
	return b, nil
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
