//go:build !race

package hop

const race = false
