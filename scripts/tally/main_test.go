package main

import "testing"

func TestReason(t *testing.T) {
	for name, test := range map[string]struct {
		output []string
		want   string
	}{
		"a test":   {[]string{"=== RUN   TestIt\n", "    it_test.go:12: needs root: running as uid 1000\n", "--- SKIP: TestIt (0.00s)\n"}, "needs root: running as uid 1000"},
		"a script": {[]string{"    cmd.go:380: only root does\n", "    testscript.go:609: WORK=$WORK\n", "        > [!root] skip 'only root does'\n"}, "only root does"},
		"silence":  {[]string{"--- SKIP: TestIt (0.00s)\n"}, "no reason given"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reason(test.output); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
