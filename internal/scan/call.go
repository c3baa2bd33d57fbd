package scan

// Call is what routing and policy look at in the body of a model call.
type Call struct {
	Model     Field  // absent when the body names none
	Name      []byte // the model, decoded; aliases the body unless it has escapes
	MaxTokens int64  // the largest of max_tokens, max_completion_tokens and max_output_tokens; -1 for none
	Stream    bool
}

// Body scans the body of a model call. null counts as absent, except for the model. The error is an *Error.
func Body(body []byte) (Call, error) {
	var f [5]Field
	c := Call{MaxTokens: -1}
	err := Top(body, f[:], "model", "stream", "max_tokens", "max_completion_tokens", "max_output_tokens")
	if err != nil {
		return Call{}, err
	}
	if c.Model = f[0]; !c.Model.Absent() {
		if c.Name, err = c.Model.Text(body); err != nil {
			return Call{}, err
		}
	}
	if !missing(body, f[1]) {
		if c.Stream = body[f[1].Start] == 't'; !c.Stream && body[f[1].Start] != 'f' {
			return Call{}, &Error{f[1].Start, "stream is neither true nor false"}
		}
	}
	for _, limit := range f[2:] {
		if missing(body, limit) {
			continue
		}
		n, err := limit.Int(body)
		if err != nil {
			return Call{}, err
		}
		c.MaxTokens = max(c.MaxTokens, n)
	}
	return c, nil
}

func missing(body []byte, f Field) bool { return f.Absent() || body[f.Start] == 'n' }
