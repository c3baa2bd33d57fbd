package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"
)

// OpenAI reads answers of GET /v1/organization/usage/completions and its siblings that count model requests (embeddings, images, moderations, audio),
// asked for with group_by=api_key_id: one page after another in one file. (platform.openai.com/docs/api-reference/usage, "Completions usage object")
func OpenAI(r io.Reader) (*Export, error) {
	x := &Export{Provider: "openai"}
	err := pages(r, x, func(page []byte) (more bool, err error) {
		var p struct {
			Object string `json:"object"`
			Data   []struct {
				Object  string `json:"object"`
				Start   *int64 `json:"start_time"` // Unix time in seconds
				End     *int64 `json:"end_time"`
				Results []struct {
					Object   string  `json:"object"`
					Requests *int64  `json:"num_model_requests"`
					Key      *string `json:"api_key_id"`
					Project  *string `json:"project_id"`
					Batch    *bool   `json:"batch"`
				} `json:"results"`
			} `json:"data"`
			HasMore *bool `json:"has_more"`
		}
		if err := json.Unmarshal(page, &p); err != nil {
			return false, no("%v", err)
		}
		if p.Object != "page" || p.HasMore == nil {
			return false, no("it has no object page with has_more")
		}
		for _, b := range p.Data {
			if b.Object != "bucket" || b.Start == nil || b.End == nil || *b.Start < 0 || *b.End <= *b.Start || *b.End > 1<<40 {
				return false, no("a member of data is no bucket with start_time and end_time")
			}
			from, to := time.Unix(*b.Start, 0).UTC(), time.Unix(*b.End, 0).UTC()
			x.cover(from, to)
			for _, u := range b.Results {
				if !strings.HasPrefix(u.Object, "organization.usage.") || u.Requests == nil {
					return false, no("a result %q without num_model_requests", u.Object)
				}
				if u.Batch != nil && *u.Batch {
					x.doubt("batch jobs make requests that no client sent one by one; they are counted as if they had been")
				}
				if err := x.add(Count{Keys: ids(u.Key, u.Project), Kind: Use, From: from, To: to, Requests: *u.Requests}); err != nil {
					return false, err
				}
			}
		}
		return *p.HasMore, nil
	})
	if err != nil {
		return nil, err
	}
	return x, x.grouped("group_by=api_key_id")
}

// pages calls each with one JSON value of the file after another.
func pages(r io.Reader, x *Export, each func(page []byte) (more bool, err error)) error {
	b, err := read(r)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	more, n := false, 0
	for ; ; n++ {
		var page json.RawMessage
		if err := d.Decode(&page); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return no("page %d: %v", n+1, err)
		}
		if more, err = each(page); err != nil {
			return err
		}
	}
	if n == 0 {
		return no("it is empty")
	}
	if more {
		x.doubt("the last page says has_more: the pages after it are not in the file")
	}
	return nil
}

// doubt notes once why the export proves less than it seems to.
func (x *Export) doubt(why string) {
	for _, w := range x.Unproven {
		if w == why {
			return
		}
	}
	x.Unproven = append(x.Unproven, why)
}
