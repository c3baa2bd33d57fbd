package register

import "time"

// Journal is the records of a register.
type Journal struct{}

// Verdict is what a probe found.
type Verdict struct{}

func (j *Journal) at(valid, recorded time.Time) []Component { return nil }
