//go:build !linux

package process

func slacken() {}
