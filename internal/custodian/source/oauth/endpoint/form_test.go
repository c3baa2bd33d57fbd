package endpoint

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestForm(t *testing.T) {
	var all []byte
	for c := range 256 {
		all = append(all, byte(c))
	}
	for _, value := range []string{"", "a b", string(all), strings.Repeat("~", 5000)} {
		f := new(form)
		f.add("first", []byte("1"))
		f.add("value", []byte(value))
		got, err := url.ParseQuery(string(*f))
		if err != nil || got.Get("value") != value || got.Get("first") != "1" || slices.Contains(*f, ' ') {
			t.Errorf("%.40q came out as %.40q, %v", value, got.Get("value"), err)
		}
	}
}
