//go:build !linux

package loot

import "errors"

func (s *Survey) othersMemory(Target, int) error { return errors.ErrUnsupported }
func (s *Survey) ownMemory(Target) error         { return errors.ErrUnsupported }
