package export

import (
	"encoding/json"
	"strings"
	"time"
)

// CloudTrail reads log files of AWS CloudTrail. keys is what `aws cloudtrail list-public-keys` prints; with it, and the digest files among the files,
// what was altered or is missing is found. Keys of a count are the access key id, the role that issued the session and the caller's ARN; a session
// made for a role (AssumeRole, AssumeRoleWithWebIdentity) is a read. (docs.aws.amazon.com/awscloudtrail/latest/userguide/
// cloudtrail-log-file-examples.html, cloudtrail-log-file-custom-validation.html)
func CloudTrail(files []File, keys []byte) (*Export, error) {
	x := &Export{Provider: "cloudtrail"}
	t, err := newTrail(files, keys)
	if err != nil {
		return nil, err
	}
	x.Unproven = t.check()
	for _, f := range t.logs {
		if err := x.records(f); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// records takes the events of a log file.
func (x *Export) records(f File) error {
	var log struct {
		Records []struct {
			Time     *time.Time `json:"eventTime"`
			Name     string     `json:"eventName"`
			Source   string     `json:"eventSource"`
			Address  string     `json:"sourceIPAddress"`
			Error    string     `json:"errorCode"`
			Identity struct {
				Key     string `json:"accessKeyId"`
				ARN     string `json:"arn"`
				Session struct {
					Issuer struct {
						ARN string `json:"arn"`
					} `json:"sessionIssuer"`
				} `json:"sessionContext"`
			} `json:"userIdentity"`
			Parameters json.RawMessage `json:"requestParameters"`
		} `json:"Records"`
	}
	if err := json.Unmarshal(f.Bytes, &log); err != nil || log.Records == nil {
		return no("%s is no log file of CloudTrail: %v", f.Name, err)
	}
	for _, e := range log.Records {
		if e.Time == nil || e.Name == "" || e.Source == "" {
			return no("%s has an event without eventTime, eventName and eventSource", f.Name)
		}
		at := e.Time.UTC()
		c := Count{Kind: Use, From: at, To: at, Requests: 1, Who: strings.TrimSpace(e.Name + " " + e.Address), Keys: ids(&e.Identity.Key, &e.Identity.Session.Issuer.ARN, &e.Identity.ARN)}
		x.cover(at, at)
		if e.Source == "sts.amazonaws.com" && strings.HasPrefix(e.Name, "AssumeRole") {
			var p struct {
				Role string `json:"roleArn"`
			}
			if len(e.Parameters) > 0 && json.Unmarshal(e.Parameters, &p) != nil {
				return no("%s has an event %s whose requestParameters cannot be read", f.Name, e.Name)
			}
			if e.Error != "" {
				continue // no session was made
			}
			c.Kind, c.Keys = Read, ids(&p.Role)
		}
		if len(c.Keys) == 0 {
			continue // of a service of AWS
		}
		if err := x.add(c); err != nil {
			return err
		}
	}
	return nil
}
