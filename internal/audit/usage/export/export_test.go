package export

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

const openAIPage = `{"object":"page","data":[{"object":"bucket","start_time":1730419200,"end_time":1730422800,"results":[
 {"object":"organization.usage.completions.result","input_tokens":1000,"output_tokens":500,"input_cached_tokens":800,"num_model_requests":5,"project_id":"proj_a","user_id":null,"api_key_id":"key_1","model":null,"batch":null},
 {"object":"organization.usage.completions.result","input_tokens":1,"output_tokens":1,"num_model_requests":2,"project_id":null,"api_key_id":null}]},
 {"object":"bucket","start_time":1730422800,"end_time":1730426400,"results":[]}],"has_more":%t,"next_page":null}`

const anthropicPage = `{"data":[{"starting_at":"2026-08-01T00:00:00Z","ending_at":"2026-08-01T00:01:00Z","results":[
 {"uncached_input_tokens":1500,"cache_creation":{"ephemeral_1h_input_tokens":1000,"ephemeral_5m_input_tokens":500},"cache_read_input_tokens":200,"output_tokens":500,"server_tool_use":{"web_search_requests":10},
  "api_key_id":"apikey_01","workspace_id":null,"model":null,"service_tier":null,"context_window":null},
 {"uncached_input_tokens":0,"cache_creation":{},"cache_read_input_tokens":0,"output_tokens":0,"api_key_id":"apikey_02","workspace_id":"wrkspc_1"}]}],"has_more":false,"next_page":null}`

const baoLines = `{"time":"2026-08-01T10:00:00.5Z","type":"request","auth":{"display_name":"approle","accessor":"hmac-sha256:00"},"request":{"id":"1","operation":"read","path":"secret/data/openai","namespace":{"id":"root","path":""},"remote_address":"10.0.0.1"}}
{"time":"2026-08-01T10:00:00.6Z","type":"response","auth":{"display_name":"approle","accessor":"hmac-sha256:00"},"request":{"id":"1","operation":"read","path":"secret/data/openai","namespace":{"id":"root","path":""},"remote_address":"10.0.0.1"},"response":{"data":{"data":"hmac-sha256:00"}}}

{"time":"2026-08-01T10:00:01Z","type":"response","request":{"id":"2","operation":"read","path":"secret/data/openai"},"error":"1 error occurred: permission denied"}
{"time":"2026-08-01T10:00:02Z","type":"response","request":{"id":"3","operation":"update","path":"auth/approle/login","namespace":{"path":"team/"}}}
{"time":"2026-08-01T10:00:03Z","type":"response","auth":{"display_name":"root"},"request":{"id":"4","operation":"read","path":"database/creds/ro","namespace":{"path":"team/"},"remote_address":"10.0.0.9"}}
`

func TestReports(t *testing.T) {
	for _, tt := range []struct {
		name string
		read func(io.Reader) (*Export, error)
		text string
		want *Export
		err  error
		says string
	}{
		{"openai", OpenAI, fmt.Sprintf(openAIPage, false), &Export{Provider: "openai", From: at("2024-11-01T00:00:00Z"), To: at("2024-11-01T02:00:00Z"), Counts: []Count{
			{Keys: []string{"key_1", "proj_a"}, Kind: Use, From: at("2024-11-01T00:00:00Z"), To: at("2024-11-01T01:00:00Z"), Requests: 5},
			{Kind: Use, From: at("2024-11-01T00:00:00Z"), To: at("2024-11-01T01:00:00Z"), Requests: 2}}}, nil, ""},
		{"openai, pages missing", OpenAI, fmt.Sprintf(openAIPage, false) + fmt.Sprintf(openAIPage, true), nil, nil, "has_more"},
		{"openai, batch", OpenAI, strings.Replace(fmt.Sprintf(openAIPage, false), `"batch":null`, `"batch":true`, 1), nil, nil, "batch"},
		{"openai, not grouped", OpenAI, strings.NewReplacer(`"key_1"`, "null", `"proj_a"`, "null").Replace(fmt.Sprintf(openAIPage, false)), nil, ErrGrouping, "group_by"},
		{"openai, costs", OpenAI, strings.ReplaceAll(fmt.Sprintf(openAIPage, false), `"num_model_requests"`, `"amount"`), nil, ErrFormat, "num_model_requests"},
		{"openai, negative", OpenAI, strings.ReplaceAll(fmt.Sprintf(openAIPage, false), `"num_model_requests":5`, `"num_model_requests":-5`), nil, ErrFormat, "-5"},
		{"openai, backwards", OpenAI, strings.Replace(fmt.Sprintf(openAIPage, false), "1730422800", "1730419100", 1), nil, ErrFormat, "bucket"},
		{"openai, no JSON", OpenAI, "{", nil, ErrFormat, "page 1"},
		{"openai, empty", OpenAI, "", nil, ErrFormat, "empty"},
		{"anthropic", Anthropic, anthropicPage, &Export{Provider: "anthropic", AtLeast: true, From: at("2026-08-01T00:00:00Z"), To: at("2026-08-01T00:01:00Z"), Counts: []Count{
			{Keys: []string{"apikey_01"}, Kind: Use, From: at("2026-08-01T00:00:00Z"), To: at("2026-08-01T00:01:00Z"), Requests: 1},
			{Keys: []string{"apikey_02", "wrkspc_1"}, Kind: Use, From: at("2026-08-01T00:00:00Z"), To: at("2026-08-01T00:01:00Z")}}}, nil, ""},
		{"anthropic, another's", Anthropic, fmt.Sprintf(openAIPage, false), nil, ErrFormat, "bucket"},
		{"anthropic, negative", Anthropic, strings.Replace(anthropicPage, `"output_tokens":500`, `"output_tokens":-1`, 1), nil, ErrFormat, "negative"},
		{"openbao", OpenBao, baoLines, &Export{Provider: "openbao", From: at("2026-08-01T10:00:00.5Z"), To: at("2026-08-01T10:00:03Z"), Counts: []Count{
			{Keys: []string{"secret/data/openai"}, Kind: Read, From: at("2026-08-01T10:00:00.6Z"), To: at("2026-08-01T10:00:00.6Z"), Requests: 1, Who: "approle 10.0.0.1"},
			{Keys: []string{"team/database/creds/ro"}, Kind: Read, From: at("2026-08-01T10:00:03Z"), To: at("2026-08-01T10:00:03Z"), Requests: 1, Who: "root 10.0.0.9"}}}, nil, ""},
		{"openbao, torn", OpenBao, baoLines + `{"time":`, nil, ErrFormat, "line 7"},
		{"openbao, empty", OpenBao, "", nil, ErrFormat, "empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.read(strings.NewReader(tt.text))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if tt.want != nil {
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Fatal(d)
				}
			}
			if says := fmt.Sprint(err, got); tt.says != "" && !strings.Contains(says, tt.says) {
				t.Fatalf("nothing says %q: %s", tt.says, says)
			}
		})
	}
}

// delivered is a trail as AWS delivers it: two hours with a log file each, signed. It follows the string to sign of the AWS documentation.
func delivered(t testing.TB) (files []File, keys []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys = fmt.Appendf(nil, `{"PublicKeyList":[{"Value":"%s","Fingerprint":"f1"}]}`, base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&key.PublicKey)))
	var prevObject, prevHash, prevSig any
	for h := range 2 {
		log := fmt.Appendf(nil, `{"Records":[{"eventVersion":"1.09","userIdentity":{"type":"AssumedRole","accessKeyId":"ASIAEXAMPLE","arn":"arn:aws:sts::1:assumed-role/r/s","sessionContext":{"sessionIssuer":{"arn":"arn:aws:iam::1:role/r"}}},"eventTime":"2026-08-01T1%d:10:00Z","eventSource":"bedrock.amazonaws.com","eventName":"InvokeModel","sourceIPAddress":"10.0.0.1"},
 {"userIdentity":{"type":"WebIdentityUser"},"eventTime":"2026-08-01T1%d:09:00Z","eventSource":"sts.amazonaws.com","eventName":"AssumeRoleWithWebIdentity","requestParameters":{"roleArn":"arn:aws:iam::1:role/r"},"sourceIPAddress":"10.0.0.1"},
 {"userIdentity":{"type":"AWSService"},"eventTime":"2026-08-01T1%d:09:00Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt","requestParameters":null}]}`, h, h, h)
		logName, name := fmt.Sprintf("1_CloudTrail_eu_1%d.json.gz", h), fmt.Sprintf("AWSLogs/1/CloudTrail-Digest/1_1%d.json.gz", h)
		d := map[string]any{"awsAccountId": "1", "digestStartTime": fmt.Sprintf("2026-08-01T1%d:00:00Z", h), "digestEndTime": fmt.Sprintf("2026-08-01T1%d:00:00Z", h+1),
			"digestS3Bucket": "b", "digestS3Object": name, "digestPublicKeyFingerprint": "f1", "digestSignatureAlgorithm": "SHA256withRSA",
			"previousDigestS3Object": prevObject, "previousDigestHashValue": prevHash, "previousDigestSignature": prevSig,
			"logFiles": []any{map[string]any{"s3Bucket": "b", "s3Object": "AWSLogs/1/" + logName, "hashValue": hexSum(log), "hashAlgorithm": "SHA-256"}}}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		before := "null"
		if prevSig != nil {
			before = prevSig.(string)
		}
		sum := sha256.Sum256([]byte(d["digestEndTime"].(string) + "\nb/" + name + "\n" + hexSum(text) + "\n" + before))
		sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		prevObject, prevHash, prevSig = name, hexSum(text), hex.EncodeToString(sig)
		files = append(files, File{logName, packed(log)}, File{"x/" + name, packed(text)})
		if h == 1 { // the first one's is in the second
			files = append(files, File{name[strings.LastIndex(name, "/")+1:] + ".sig", []byte(prevSig.(string) + "\n")})
		}
	}
	return files, keys
}

func packed(b []byte) []byte {
	var w bytes.Buffer
	z := gzip.NewWriter(&w)
	_, _ = z.Write(b)
	_ = z.Close()
	return w.Bytes()
}

func TestCloudTrail(t *testing.T) {
	edit := func(f File, old, new string) File {
		z, err := gzip.NewReader(bytes.NewReader(f.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil || !bytes.Contains(b, []byte(old)) {
			t.Fatal(err, old)
		}
		return File{f.Name, packed(bytes.Replace(b, []byte(old), []byte(new), 1))}
	}
	for _, tt := range []struct {
		name string
		edit func(files []File, keys []byte) ([]File, []byte)
		says []string
	}{
		{"as delivered", func(f []File, k []byte) ([]File, []byte) { return f, k }, nil},
		{"no keys", func(f []File, k []byte) ([]File, []byte) { return f, nil }, []string{"were not checked"}},
		{"no digests", func(f []File, k []byte) ([]File, []byte) { return []File{f[0], f[2]}, k }, []string{"were not checked"}},
		{"no signature", func(f []File, k []byte) ([]File, []byte) { return f[:4], k }, []string{"1_11.json.gz has no signature"}},
		{"log altered", func(f []File, k []byte) ([]File, []byte) { f[0] = edit(f[0], "10.0.0.1", "10.0.0.2"); return f, k }, []string{"1_CloudTrail_eu_10.json.gz is not the one"}},
		{"log missing", func(f []File, k []byte) ([]File, []byte) { return f[1:], k }, []string{"1_CloudTrail_eu_10.json.gz is missing"}},
		{"log added", func(f []File, k []byte) ([]File, []byte) {
			return append(f, File{"more.json", []byte(`{"Records":[]}`)}), k
		}, []string{"no digest names the log file more.json"}},
		{"digest altered", func(f []File, k []byte) ([]File, []byte) {
			f[3] = edit(f[3], `"awsAccountId":"1"`, `"awsAccountId":"2"`)
			return f, k
		}, []string{"wrong signature"}},
		{"first digest altered", func(f []File, k []byte) ([]File, []byte) {
			f[1] = edit(f[1], `"awsAccountId":"1"`, `"awsAccountId":"2"`)
			return f, k
		}, []string{"wrong signature", "its successor names"}},
		{"a digest is missing", func(f []File, k []byte) ([]File, []byte) {
			f[3] = edit(f[3], "1_10.json.gz", "1_09.json.gz")
			return f, k
		}, []string{"gap"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, err := CloudTrail(tt.edit(delivered(t)))
			if err != nil {
				t.Fatal(err)
			}
			if tt.says == nil && len(x.Unproven) > 0 {
				t.Fatal(x.Unproven)
			}
			for _, s := range tt.says {
				if !strings.Contains(strings.Join(x.Unproven, "\n"), s) {
					t.Errorf("nothing says %q: %q", s, x.Unproven)
				}
			}
		})
	}
	x, err := CloudTrail(delivered(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []Count{
		{Keys: []string{"ASIAEXAMPLE", "arn:aws:iam::1:role/r", "arn:aws:sts::1:assumed-role/r/s"}, Kind: Use, From: at("2026-08-01T10:10:00Z"), To: at("2026-08-01T10:10:00Z"), Requests: 1, Who: "InvokeModel 10.0.0.1"},
		{Keys: []string{"arn:aws:iam::1:role/r"}, Kind: Read, From: at("2026-08-01T10:09:00Z"), To: at("2026-08-01T10:09:00Z"), Requests: 1, Who: "AssumeRoleWithWebIdentity 10.0.0.1"}}
	if d := cmp.Diff(want, x.Counts[:2]); d != "" {
		t.Fatal(d)
	}
}

func FuzzOpenAI(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(openAIPage, false)))
	f.Fuzz(func(t *testing.T, b []byte) { sane(t, OpenAI, b) })
}

func FuzzAnthropic(f *testing.F) {
	f.Add([]byte(anthropicPage))
	f.Fuzz(func(t *testing.T, b []byte) { sane(t, Anthropic, b) })
}

func FuzzOpenBao(f *testing.F) {
	f.Add([]byte(baoLines))
	f.Fuzz(func(t *testing.T, b []byte) { sane(t, OpenBao, b) })
}

func FuzzCloudTrail(f *testing.F) {
	files, keys := delivered(f)
	f.Add(files[0].Bytes, files[1].Bytes, keys)
	f.Fuzz(func(t *testing.T, log, digest, keys []byte) {
		sane(t, func(io.Reader) (*Export, error) {
			return CloudTrail([]File{{"log.json", log}, {"digest.json", digest}, {"digest.json.sig", []byte("00")}}, keys)
		}, nil)
	})
}

// sane holds what a parser takes against the bounds, and refusals against the one error.
func sane(t *testing.T, parse func(io.Reader) (*Export, error), b []byte) {
	x, err := parse(bytes.NewReader(b))
	if err != nil {
		if !errors.Is(err, ErrFormat) {
			t.Fatalf("%v is no ErrFormat", err)
		}
		return
	}
	for _, c := range x.Counts {
		if c.Requests < 0 || c.To.Before(c.From) || c.From.Before(x.From) || c.To.After(x.To) {
			t.Fatalf("%+v outside of %s to %s", c, x.From, x.To)
		}
	}
}
