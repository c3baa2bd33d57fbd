package detect

import "time"

// window counts distinct words of the last while. What falls out of it is forgotten.
type window struct {
	length time.Duration
	seen   []sighting     // in order of time, within the window
	of     map[string]int // how many sightings of a word are in it
	total  int64          // sum of the weights of the sightings in it
}

type sighting struct {
	at     int64 // Unix time in nanoseconds
	word   string
	weight int64
}

func newWindow(length time.Duration) *window { return &window{length: length, of: map[string]int{}} }

// add takes a sighting and forgets those before the window that ends with it.
func (w *window) add(at int64, word string, weight int64) {
	w.forget(at)
	w.seen = append(w.seen, sighting{at, word, weight})
	w.of[word]++
	w.total += weight
}

func (w *window) forget(now int64) {
	n := 0
	for n < len(w.seen) && w.seen[n].at <= now-int64(w.length) {
		s := w.seen[n]
		if w.of[s.word]--; w.of[s.word] == 0 {
			delete(w.of, s.word)
		}
		w.total -= s.weight
		n++
	}
	w.seen = w.seen[n:]
}

// distinct is how many words are in the window.
func (w *window) distinct() int64 { return int64(len(w.of)) }
