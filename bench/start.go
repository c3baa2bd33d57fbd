package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// starting measures, in turns, how long the processes of each build take until all are ready: each time at an estate's first start, which
// was made before.
func starting(ctx context.Context, o options, base string, turns int) error {
	builds := []string{o.bin}
	if o.against != "" {
		builds = []string{o.against, o.bin}
	}
	took := make([][]float64, len(builds))
	for turn := range turns {
		for i, bin := range builds {
			err := within(ctx, filepath.Join(base, fmt.Sprintf("start-%d-%d", turn, i)), bin, func(_ context.Context, e *demonstration) error {
				took[i] = append(took[i], float64(e.started)/float64(time.Millisecond))
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	for i, bin := range builds {
		middle := median(took[i])
		fmt.Printf("%s: all processes ready after %.0f ms (median of %d first starts; %.0f to %.0f)\n", bin, middle, turns, took[i][0], took[i][turns-1])
	}
	return nil
}
