package verify

// KeyHash is for tests in package verify_test.
var KeyHash = keyHash
