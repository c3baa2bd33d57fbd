package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuOf is the CPU time that each process has used, user and system, from /proc/PID/stat: to 10 ms, threads that ended
// included.
func cpuOf(pids []int) []time.Duration {
	all := make([]time.Duration, len(pids))
	for i, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the third field on: the second may hold spaces
		for _, f := range fields[11:13] {
			n, _ := strconv.ParseInt(f, 10, 64)
			all[i] += time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
		}
	}
	return all
}

// memoryOf is the resident memory of the processes in bytes, counted once for pages that they share (proportional set size);
// where the kernel does not say that, the resident set.
func memoryOf(pids []int) int64 {
	var sum int64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		key := []byte("Pss:")
		if err != nil {
			b, _ = os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			key = []byte("VmRSS:")
		}
		for _, line := range bytes.Split(b, []byte("\n")) {
			if rest, ok := bytes.CutPrefix(line, key); ok {
				kb, _ := strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
				sum += kb << 10
			}
		}
	}
	return sum
}
