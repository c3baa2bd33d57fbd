package export

import (
	"encoding/json"
	"io"
	"time"
)

// Anthropic reads answers of GET /v1/organizations/usage_report/messages, asked for with group_by[]=api_key_id: one page after another in one file.
// The report counts tokens and not requests, so that a bucket says no more than that there was one: bucket_width=1m says most.
// (platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages)
func Anthropic(r io.Reader) (*Export, error) {
	x := &Export{Provider: "anthropic", AtLeast: true}
	err := pages(r, x, func(page []byte) (more bool, err error) {
		var p struct {
			Data []struct {
				Start   *time.Time `json:"starting_at"`
				End     *time.Time `json:"ending_at"`
				Results []struct {
					Key       *string `json:"api_key_id"`
					Workspace *string `json:"workspace_id"` // null for the default workspace
					Input     *int64  `json:"uncached_input_tokens"`
					Cached    int64   `json:"cache_read_input_tokens"`
					Creation  struct {
						Hour    int64 `json:"ephemeral_1h_input_tokens"`
						Minutes int64 `json:"ephemeral_5m_input_tokens"`
					} `json:"cache_creation"`
					Output *int64 `json:"output_tokens"`
				} `json:"results"`
			} `json:"data"`
			HasMore *bool `json:"has_more"`
		}
		if err := json.Unmarshal(page, &p); err != nil {
			return false, no("%v", err)
		}
		if p.Data == nil || p.HasMore == nil {
			return false, no("it has no data and has_more")
		}
		for _, b := range p.Data {
			if b.Start == nil || b.End == nil || !b.Start.Before(*b.End) {
				return false, no("a member of data is no bucket with starting_at and ending_at")
			}
			x.cover(b.Start.UTC(), b.End.UTC())
			for _, u := range b.Results {
				if u.Input == nil || u.Output == nil || min(*u.Input, *u.Output, u.Cached, u.Creation.Hour, u.Creation.Minutes) < 0 {
					return false, no("a result without uncached_input_tokens and output_tokens, or with negative ones")
				}
				c := Count{Keys: ids(u.Key, u.Workspace), Kind: Use, From: b.Start.UTC(), To: b.End.UTC()}
				if max(*u.Input, *u.Output, u.Cached, u.Creation.Hour, u.Creation.Minutes) > 0 {
					c.Requests = 1
				}
				if err := x.add(c); err != nil {
					return false, err
				}
			}
		}
		return *p.HasMore, nil
	})
	if err != nil {
		return nil, err
	}
	return x, x.grouped("group_by[]=api_key_id")
}
