package verify

// KeyHash is for tests in package verify_test.
var KeyHash = keyHash

// Looks is how many logs and successors are looked at until one with an origin is found.
func (t *Trust) Looks(origin string) (n int) {
	t.log(func(l Log) bool { n++; return l.Origin == origin })
	return n
}
