package oscal

import (
	"encoding/json"

	"github.com/reevehq/reeve/internal/audit/uuid"
)

// id is the same for the same words.
func id(words ...string) string { return uuid.Of(append([]string{"oscal"}, words...)...) }

// idOf is a document's: of its kind and all that it says. Its own member is empty by then.
func idOf(kind string, document any) (string, error) {
	b, err := json.Marshal(document)
	return id(kind, string(b)), err
}
