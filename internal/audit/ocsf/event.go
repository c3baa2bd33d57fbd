// Package ocsf says ledger entries as events of the Open Cybersecurity Schema Framework, and hands them to a file or a webhook: each at least once,
// in a process of its own that the ledgers do not wait for.
package ocsf

// Version is of the schema. docs/formats/ocsf.md says by what events were judged.
const Version = "1.9.0"

// The classes.
const (
	authentication   = 3002
	authorizeSession = 3003
	entityManagement = 3004
	apiActivity      = 6003
)

// Activities, by class.
const (
	other = 99

	create, read, update, remove = 1, 2, 3, 4 // of an API; of an entity too

	enable, disable, activate, deactivate, suspend, resume = 8, 9, 10, 11, 12, 13 // of an entity

	ticket, serviceTicket = 3, 4 // of an authentication

	assignPrivileges = 1 // of a session
)

// Event is one event. Members that do not apply are left out.
type Event struct {
	Class        int          `json:"class_uid"`
	Category     int          `json:"category_uid"`
	Activity     int          `json:"activity_id"`
	ActivityName string       `json:"activity_name,omitempty"` // of Other
	Type         int          `json:"type_uid"`
	Time         int64        `json:"time"` // Unix time in milliseconds
	Severity     int          `json:"severity_id"`
	StatusID     int          `json:"status_id"`
	StatusDetail string       `json:"status_detail,omitempty"`
	Message      string       `json:"message"`
	Count        int64        `json:"count,omitempty"`
	Metadata     Metadata     `json:"metadata"`
	Actor        *Actor       `json:"actor,omitempty"`
	API          *API         `json:"api,omitempty"`
	Source       *Endpoint    `json:"src_endpoint,omitempty"`
	Destination  *Endpoint    `json:"dst_endpoint,omitempty"`
	Request      *Request     `json:"http_request,omitempty"`
	Response     *Response    `json:"http_response,omitempty"`
	Resources    []Named      `json:"resources,omitempty"`
	User         *Named       `json:"user,omitempty"`
	Service      *Named       `json:"service,omitempty"`
	Session      *Session     `json:"session,omitempty"`
	Protocol     *int         `json:"auth_protocol_id,omitempty"`
	Privileges   []string     `json:"privileges,omitempty"`
	Entity       *Named       `json:"entity,omitempty"`
	Unmapped     *Unmapped    `json:"unmapped,omitempty"`
	Raw          string       `json:"raw_data"`              // the ledger's leaf, byte for byte
	Delegation   *Delegation  `json:"delegation,omitempty"`  // of the profile ai_operation
	Attestation  *Attestation `json:"attestation,omitempty"` // of the profile record_integrity
}

// Metadata says where the event is from. UID is the log's id and the entry's number, and so the same whenever the event is sent again.
type Metadata struct {
	Version     string   `json:"version"`
	Product     Product  `json:"product"`
	Profiles    []string `json:"profiles,omitempty"`
	UID         string   `json:"uid"`
	Sequence    int64    `json:"sequence"`
	Correlation string   `json:"correlation_uid,omitempty"` // of an outcome the intent's
	Log         string   `json:"log_name"`                  // origin
	Provider    string   `json:"log_provider"`              // process
	Original    string   `json:"original_time"`             // Unix time in nanoseconds
	Tenant      string   `json:"tenant_uid,omitempty"`
	Code        string   `json:"event_code"` // the entry's type
}

// Product is reeve.
type Product struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor_name"`
}

// Named is a user, a service, a resource or an entity.
type Named struct {
	UID     string `json:"uid"`
	Alt     string `json:"uid_alt,omitempty"` // of a credential its keyed fingerprint
	Name    string `json:"name,omitempty"`
	Type    string `json:"type,omitempty"`
	Version string `json:"version,omitempty"`
}

// Actor is who acted, and what allowed it.
type Actor struct {
	User           *Named          `json:"user,omitempty"`
	App            string          `json:"app_uid,omitempty"` // the process
	Authorizations []Authorization `json:"authorizations,omitempty"`
}

// Authorization is the policies that decided.
type Authorization struct {
	Decision string  `json:"decision"`
	Policy   *Policy `json:"policy,omitempty"`
}

// Policy is one policy of an estate's lock.
type Policy struct {
	UID     string `json:"uid"`
	Version string `json:"version,omitempty"` // hex hash of the lock
}

// API is what was called.
type API struct {
	Operation string  `json:"operation"`
	Service   *Named  `json:"service,omitempty"`
	Request   *UID    `json:"request,omitempty"`
	Response  *Answer `json:"response,omitempty"`
}

// UID is an id.
type UID struct {
	UID string `json:"uid"`
}

// Answer is what came back.
type Answer struct {
	Code  int    `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

// Endpoint is a gateway, or an origin.
type Endpoint struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name"`
}

// Request is an HTTP request.
type Request struct {
	Method string `json:"http_method"`
	UID    string `json:"uid"`
}

// Response is an HTTP response.
type Response struct {
	Code   int   `json:"code"`
	Length int64 `json:"body_length,omitempty"`
}

// Session is a token, a key or a lease.
type Session struct {
	UID     string `json:"uid,omitempty"`
	Issuer  string `json:"issuer"`
	Expires int64  `json:"expiration_time,omitempty"` // Unix time in milliseconds
}

// Unmapped is what the schema has no place for.
type Unmapped struct {
	Unit      string   `json:"unit,omitempty"`
	Gateway   string   `json:"gateway,omitempty"`
	Actor     []string `json:"actor,omitempty"`
	Level     string   `json:"level,omitempty"`
	Proof     string   `json:"proof,omitempty"`
	State     string   `json:"state,omitempty"`
	Lease     string   `json:"lease,omitempty"`
	Record    string   `json:"record,omitempty"`
	Estate    string   `json:"estate,omitempty"`
	PathHash  string   `json:"path_hash,omitempty"`
	FeedAgeMS *int64   `json:"feed_age_ms,omitempty"`
}
