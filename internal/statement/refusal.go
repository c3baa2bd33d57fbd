package statement

import (
	"errors"
	"fmt"
	"strings"
)

// ErrRefused is wrapped by every refusal of a set or record.
var ErrRefused = errors.New("refused")

// Error is a refusal that a person can act on. It wraps ErrRefused.
type Error struct {
	Rule   string // the stable word for the rule that was broken, such as approvers or rollback
	Person string // the person that it concerns, or empty
	File   string // slash-separated path below the store, or the file's name
	Line   int    // from 1; 0 when the refusal is not about a place in the file
	Column int

	What    string // what happened
	Meaning string // what that means
	Do      string // what to do next

	beyond bool // the store, or the pin, does not reach this far back
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
		}
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%s (rule %s). %s. %s.", e.What, e.Rule, e.Meaning, e.Do)
	return b.String()
}

// Unwrap returns ErrRefused.
func (e *Error) Unwrap() error { return ErrRefused }

// refuse returns a refusal under a rule, with the rule's meaning and advice.
func refuse(rule, format string, args ...any) *Error {
	e := &Error{Rule: rule, What: fmt.Sprintf(format, args...)}
	e.Meaning, e.Do = advice(rule)
	return e
}

// in names the file that a refusal is about, unless it names one already.
func (e *Error) in(file string) *Error {
	if e.File == "" {
		e.File = file
	}
	return e
}

// advice says what breaking a rule means and what to do about it.
func advice(rule string) (meaning, do string) {
	switch rule {
	case "yaml", "json":
		return "Nothing that cannot be read in exactly one way is accepted", "Correct the file at that place and have it signed again"
	case "id", "reference", "value", "key":
		return "The statement contradicts itself or another statement", "Correct the file at that place and have it signed again"
	case "size":
		return "Input without bounds is not read", "Make it smaller, or split it"
	case "missing":
		return "The set is not complete", "Put the missing files into the estate's directory (a unit has policy.yaml, custody.yaml and its Cedar files in units/ID), have them signed, and publish"
	case "hash":
		return "The bytes are not those that were signed", "Restore the file from version control and publish again"
	case "signature", "author", "approvers":
		return "Too few of the people who must agree have signed", "Ask the people named to sign this version, then publish again"
	case "notice":
		return "Recovery keys act in public, so that whoever still belongs to the root quorum can object", "Announce it with reeve estate recover and wait, or publish a charter that the root quorum signed"
	case "items":
		return "Who answers for a thing has not agreed to what is done with it", "Ask the person named to approve this version, or undo that change in it"
	case "separation":
		return "One person or key could open something alone", "Give one of the roles to somebody else and have the charter signed again"
	case "owner":
		return "Nobody, or the wrong person, would answer for it", "Name one person who holds the role"
	case "expired":
		return "An old set could be kept alive for ever", "Have it signed again with a later expiry (reeve sign)"
	case "rollback", "chain":
		return "The set is older than, or does not descend from, what was accepted before", "Publish the newest version; if that is what you have, ask who changed the store"
	case "lock":
		return "The statements do not belong together", "Sign a new lock over the statements that are published now"
	case "pin":
		return "This is not the estate that this process was told to trust", "Check estate_trust in the process configuration with the people of the root quorum"
	case "demo":
		return "A demo estate protects nothing", "Make a real one with reeve init, or start the process with --demo"
	case "right":
		return "The signer does not own what the record is about", "Have it signed by the owner, or by two owners of different roles"
	}
	return "The record is not valid here", "Make it again"
}
