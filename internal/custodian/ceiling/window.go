package ceiling

// span is the number of one-second cells that any 60 s can touch: with 60 of them, an event at the end of the first second
// and one at the start of the 61st would not be counted together although they are less than 60 s apart.
const span = 61

// window counts what happened in the current second and the 60 before it. The zero window is empty.
type window struct {
	cells [span]int64
	sum   int64
	last  int64 // the newest second that was looked at
}

// at moves to the second and returns the count. A second before the newest is read as the newest.
func (w *window) at(sec int64) int64 {
	if sec-w.last >= span {
		w.cells, w.sum, w.last = [span]int64{}, 0, sec
	}
	for w.last < sec {
		w.last++
		cell := &w.cells[w.last%span]
		w.sum -= *cell
		*cell = 0
	}
	return w.sum
}

func (w *window) add(sec, n int64) {
	w.at(sec)
	w.cells[w.last%span] += n
	w.sum += n
}

// frees returns in how many seconds the oldest count will be forgotten: at least 1.
func (w *window) frees(sec int64) int64 {
	w.at(sec)
	for i := int64(1); i < span; i++ {
		if w.cells[(w.last+i)%span] != 0 {
			return i
		}
	}
	return span
}
