package authority

import (
	"log/slog"
	"net/http"
	"time"
)

// observed notes status and size of an answer for the access log.
type observed struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// Unwrap lets http.ResponseController reach the connection.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (o *observed) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (o *observed) Write(b []byte) (int, error) {
	n, err := o.ResponseWriter.Write(b)
	o.bytes += int64(n)
	return n, err
}

func attrs(id string, r *http.Request, o *observed, took time.Duration) []slog.Attr {
	return []slog.Attr{
		slog.String("request_id", id), slog.String("remote", r.RemoteAddr), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", o.status), slog.Int64("bytes", o.bytes), slog.Int64("ms", took.Milliseconds()),
	}
}
