package gateway

import (
	"io"
	"net/http"
	"time"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/gateway/dialect"
)

// RecordsPath takes signed records by POST, from anybody: who signed one says whether it counts. A revocation takes effect here at
// once and is passed on to the custodian.
const RecordsPath = "/v1/reeve/records"

// A record costs the check of a signature: so many may come at once, and one in each pace after that.
const (
	recordPace  = 50 * time.Millisecond
	recordBurst = 50
)

// record takes a signed record.
func (c *call) record() *dialect.Fault {
	c.dialect, c.route = c.g.openai, &dialect.Route{Name: "records"}
	if f := c.room(); f != nil {
		return f
	}
	if c.g.cfg.Accept == nil || !c.g.records.Allows(c.r.RemoteAddr, c.start) {
		return &dialect.Fault{Status: http.StatusServiceUnavailable, Code: "overloaded", RetryAfter: 1,
			Message: "More records come than this gateway takes. Nothing was done with this one. Send it again in a second, or another way."}
	}
	c.readBy(c.start.Add(5 * time.Second))
	file, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, feed.MaxRecord))
	if c.read = true; err == nil {
		err = c.g.cfg.Accept(file)
	}
	if err != nil {
		return &dialect.Fault{Status: http.StatusForbidden, Code: "record_refused", Final: true, Message: "The record is refused: " + err.Error()}
	}
	c.answerWith(http.StatusAccepted, nil)
	return nil
}
