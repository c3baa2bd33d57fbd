//go:build race

package egress

const race = true
