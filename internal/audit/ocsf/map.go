package ocsf

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/reevehq/reeve/entry"
)

// Severities and statuses.
const (
	informational, low, medium, high = 1, 2, 3, 4

	unknown, success, failure = 0, 1, 2
)

// From is an entry of a log as an event. raw is the entry's bytes; origin and process are the log's.
func From(e *entry.Entry, raw []byte, origin, process string) (*Event, error) {
	v := &Event{Time: e.TimeNS / 1e6, Severity: informational, StatusID: success, StatusDetail: e.Reason, Count: e.Count, Raw: string(raw), Metadata: Metadata{
		Version: Version, Profiles: []string{recordIntegrity}, Product: Product{"reeve", "reeve"}, UID: uid(e.Log, e.Seq), Sequence: e.Seq, Log: origin, Provider: process,
		Original: strconv.FormatInt(e.TimeNS, 10), Tenant: e.Tenant, Code: string(e.Type)}, Unmapped: unmapped(e)}
	if e.HasIntent {
		v.Metadata.Correlation = uid(cmp.Or(e.IntentLog, e.Log), e.IntentSeq)
	}
	switch e.Type {
	case entry.Intent, entry.Outcome, entry.Deny, entry.Probe:
		v.api(e, process)
	case entry.Issue, entry.Exchange:
		v.authenticate(e, process)
	case entry.Mint, entry.BreakGlass:
		v.authorize(e, process)
	default:
		v.manage(e, process)
	}
	v.Type = v.Class*100 + v.Activity
	v.Message = v.says(e, process)
	if v.Delegation = delegation(e); v.Delegation != nil {
		v.Metadata.Profiles = append(v.Metadata.Profiles, aiOperation)
	}
	return v, v.attest(e)
}

func uid(log string, seq int64) string { return log + "." + strconv.FormatInt(seq, 10) }

// api is a request: what is about to be sent, what came of it, what was refused, what was tried.
func (v *Event) api(e *entry.Entry, process string) {
	v.Class, v.Category = apiActivity, 6
	switch e.Method {
	case "GET", "HEAD":
		v.Activity = read
	case "POST":
		v.Activity = create
	case "PUT", "PATCH":
		v.Activity = update
	case "DELETE":
		v.Activity = remove
	default:
		v.Activity, v.ActivityName = other, string(e.Type)
	}
	v.Actor = actor(e, process)
	v.Source = &Endpoint{UID: e.Gateway, Name: cmp.Or(e.Gateway, process)}
	v.API = &API{Operation: strings.TrimSpace(cmp.Or(e.Method, string(e.Type))), Request: &UID{cmp.Or(v.Metadata.Correlation, v.Metadata.UID)}}
	if e.Dest != "" {
		v.API.Service, v.Destination = &Named{UID: e.Dest}, &Endpoint{Name: e.Dest}
	}
	if e.Method != "" {
		v.Request = &Request{e.Method, v.API.Request.UID}
	}
	if e.Credential != "" {
		v.Resources = []Named{{UID: e.Credential, Alt: e.CredFP, Type: "credential", Version: e.Lease}}
	}
	switch e.Type {
	case entry.Deny:
		v.StatusID, v.Severity, v.API.Response = failure, low, &Answer{Error: e.Reason}
	case entry.Outcome:
		if e.Status > 0 {
			v.Response, v.API.Response = &Response{e.Status, e.Bytes}, &Answer{Code: e.Status}
		}
		if v.StatusID = success; e.Status < 200 || e.Status > 399 {
			v.StatusID = failure
		}
		if e.State != "" { // it brought a secret
			v.StatusID = success
		}
	default:
		v.StatusID = unknown // nobody knows yet
	}
}

// authenticate is a token or a key that was given.
func (v *Event) authenticate(e *entry.Entry, process string) {
	v.Class, v.Category, v.Activity = authentication, 3, ticket
	protocol := other
	if e.Type == entry.Exchange {
		v.Activity, protocol = serviceTicket, 6 // OAuth 2.0
	}
	v.Protocol = &protocol
	v.User = &Named{UID: subject(e), Type: "workload"}
	v.Service = &Named{UID: process}
	v.Session = &Session{UID: e.Lease, Issuer: process, Expires: e.Expires * 1000}
	v.Actor = actor(e, process)
	if e.Decision == "deny" {
		v.StatusID, v.Severity = failure, low
	}
}

// authorize is the power to use something: a secret that is got for a credential, a person's break-glass.
func (v *Event) authorize(e *entry.Entry, process string) {
	v.Class, v.Category, v.Activity = authorizeSession, 3, assignPrivileges
	v.User = &Named{UID: cmp.Or(e.Workload, first(e.Actor), process)}
	v.Session = &Session{UID: e.Lease, Issuer: process, Expires: e.Expires * 1000}
	v.Privileges = []string{strings.TrimSpace(string(e.Type) + " " + e.Credential)}
	v.Actor = actor(e, process)
	if e.Type == entry.BreakGlass {
		v.Severity = high
		return
	}
	v.StatusID = unknown // its outcome says
}

// manage is what happened to something of the estate.
func (v *Event) manage(e *entry.Entry, process string) {
	v.Class, v.Category = entityManagement, 3
	v.Actor = actor(e, process)
	switch {
	case e.Credential != "":
		v.Entity = &Named{UID: e.Credential, Type: "credential", Version: e.Lease}
	case e.Workload != "":
		v.Entity = &Named{UID: e.Workload, Type: "workload"}
	case e.Gateway != "":
		v.Entity = &Named{UID: e.Gateway, Type: "gateway"}
	case e.Unit != "":
		v.Entity = &Named{UID: e.Unit, Type: "unit"}
	case e.PrevLog != "":
		v.Entity = &Named{UID: e.PrevLog, Type: "log"}
	case e.Record != "":
		v.Entity = &Named{UID: e.Record, Type: "record"}
	default:
		v.Entity = &Named{UID: e.Log, Type: "log"}
	}
	v.Activity = update
	switch e.Type {
	case entry.Publish:
	case entry.Freeze:
		v.Activity, v.Severity = suspend, medium
	case entry.Unfreeze:
		v.Activity, v.Severity = resume, medium
	case entry.Revoke:
		v.Activity, v.Severity = disable, medium
	case entry.Version:
		v.Activity = map[string]int{"active": activate, "frozen": suspend, "revoked-unproven": disable, "revoked-proven": disable, "destroyed": remove}[e.State]
		if v.Activity == 0 {
			v.Activity = update
		}
	case entry.Attest:
		v.Activity = enable
	case entry.Erasure:
		v.Activity = remove
	case entry.Retire:
		v.Activity, v.Severity = deactivate, medium
	case entry.Alarm:
		v.Activity, v.ActivityName, v.Severity = other, "Alarm", high
	default:
		v.Activity, v.ActivityName = other, string(e.Type)
	}
}

// subject is whom an entry of a token or key is about.
func subject(e *entry.Entry) string { return cmp.Or(e.Workload, first(e.Actor), "unknown") }

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func actor(e *entry.Entry, process string) *Actor {
	a := &Actor{App: process}
	if who := cmp.Or(e.Workload, first(e.Actor)); who != "" {
		a.User = &Named{UID: who}
	}
	if e.Decision == "" {
		return a
	}
	for _, p := range e.Policies {
		a.Authorizations = append(a.Authorizations, Authorization{e.Decision, &Policy{p, e.Estate}})
	}
	if len(e.Policies) == 0 {
		a.Authorizations = []Authorization{{Decision: e.Decision}}
	}
	return a
}

func unmapped(e *entry.Entry) *Unmapped {
	u := &Unmapped{Unit: e.Unit, Gateway: e.Gateway, Actor: e.Actor, Level: e.Level, Proof: e.Proof, State: e.State, Lease: e.Lease, Record: e.Record, Estate: e.Estate, PathHash: e.PathHash}
	if e.Type == entry.Intent || e.Type == entry.Deny {
		u.FeedAgeMS = &e.FeedAgeMS
	}
	return u
}

// says is the event in one sentence.
func (v *Event) says(e *entry.Entry, process string) string {
	who := cmp.Or(e.Workload, first(e.Actor), process)
	switch e.Type {
	case entry.Intent:
		return fmt.Sprintf("%s uses %s at %s", who, e.Credential, e.Dest)
	case entry.Deny:
		return fmt.Sprintf("%s was refused %s: %s", who, cmp.Or(e.Credential, "a request"), e.Reason)
	case entry.Outcome:
		return fmt.Sprintf("outcome of %s: %s", v.Metadata.Correlation, outcome(e))
	}
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s", process, e.Type, strings.Join(strings.Fields(e.Reason+" "+e.Credential+" "+e.Workload+" "+e.State), " ")))
}

func outcome(e *entry.Entry) string {
	if e.Status > 0 {
		return strconv.Itoa(e.Status)
	}
	return cmp.Or(e.State, e.Reason, "none")
}
