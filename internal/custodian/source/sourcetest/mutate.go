package sourcetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mutation is an answer with one member changed.
type mutation struct {
	name string
	body []byte
}

// mutations leaves out each member of a JSON object, and puts others in its place. Another body than an object has none.
func mutations(body []byte) (list []mutation) {
	var root map[string]any
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if d.Decode(&root) != nil {
		return nil
	}
	add := func(name string) {
		b, err := json.Marshal(root)
		if err != nil {
			panic(err) // it was just decoded
		}
		list = append(list, mutation{name, b})
	}
	var walk func(object map[string]any, path string)
	walk = func(object map[string]any, path string) {
		for _, name := range slices.Sorted(maps.Keys(object)) {
			old, at := object[name], path+name
			delete(object, name)
			add("no " + at)
			for _, v := range []any{nil, true, "", canary, json.Number("0"), json.Number("-1"), json.Number("1.5"), json.Number("9e18"), json.Number("9223372036854775807"),
				json.Number("1" + strings.Repeat("0", 400)), []any{}, map[string]any{}, strings.Repeat("x", 100<<10)} {
				object[name] = v
				text, _ := json.Marshal(v)
				add(fmt.Sprintf("%s = %.24s", at, text))
			}
			object[name] = old
			if inner, ok := old.(map[string]any); ok {
				walk(inner, at+".")
			}
		}
	}
	walk(root, "")
	return list
}
