package index

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// subject is what uses are summed by but for hour and policy set, as the ids of words, in the order of subjectColumns.
type subject [12]int64

func subjectColumns() [len(subject{})]Column {
	return [...]Column{ByLog, ByType, ByTenant, ByUnit, ByWorkload, ByGateway, ByCredential, ByFingerprint, ByDecision, ByReason, ByLevel, ByProof}
}

// remembered is how many words and subjects an index holds in memory before it forgets all and reads them again.
const remembered = 1 << 19

func (x *Index) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ids, x.words, x.found, x.parts, x.whole = map[string]int64{}, map[int64]string{}, map[subject]int64{}, map[int64]*topics{}, false
}

// trim forgets when there is much.
func (x *Index) trim() {
	x.mu.Lock()
	much := len(x.ids)+len(x.words)+len(x.found)+len(x.parts)*block > remembered
	x.mu.Unlock()
	if much {
		x.forget()
	}
}

// find is the start of a hash.
func find(b []byte) int64 {
	sum := sha256.Sum256(b)
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// look returns a word's id, or 0 when the index has none.
func (x *Index) look(ctx context.Context, db querier, word string) (id int64, err error) {
	x.mu.Lock()
	id = x.ids[word]
	whole := x.whole
	x.mu.Unlock()
	if id != 0 || whole {
		return id, nil
	}
	err = each(ctx, db, func(scan func(...any) error) error {
		var n int64
		var b []byte
		if err := scan(&n, &b); err != nil {
			return err
		}
		if string(b) == word {
			id = n
		}
		return nil
	}, `SELECT id, word FROM reeve_index_word WHERE find = $1`, find([]byte(word)))
	if id != 0 {
		x.mu.Lock()
		x.ids[word] = id
		x.mu.Unlock()
	}
	return id, err
}

// load returns the words of ids.
func (x *Index) load(ctx context.Context, db querier, need map[int64]bool) (map[int64]string, error) {
	all := make(map[int64]string, len(need))
	var missing []string
	x.mu.Lock()
	defer x.mu.Unlock()
	for id := range need {
		if w, ok := x.words[id]; ok {
			all[id] = w
		} else {
			missing = append(missing, fmt.Sprint(id))
		}
	}
	for part := range slices.Chunk(missing, 1000) {
		err := each(ctx, db, func(scan func(...any) error) error {
			var id int64
			var b []byte
			err := scan(&id, &b)
			x.words[id], all[id] = string(b), string(b)
			return err
		}, `SELECT id, word FROM reeve_index_word WHERE id IN (`+strings.Join(part, ", ")+`)`)
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// words gives words and subjects their ids within a transaction.
type words struct {
	x                   *Index
	tx                  *sql.Tx
	lastWord, lastTopic int64
	subjects            map[Key]int64 // of this batch, by keys without hour and policy set
	newWords, newTopics [][]any
}

func (x *Index) dictionary(ctx context.Context, tx *sql.Tx) (d *words, err error) {
	d = &words{x: x, tx: tx, subjects: map[Key]int64{}}
	for _, t := range []struct {
		table string
		last  *int64
	}{{"word", &d.lastWord}, {"subject", &d.lastTopic}} {
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(id), 0) FROM reeve_index_`+t.table).Scan(t.last); err != nil {
			return nil, err
		}
	}
	if !x.whole && d.lastWord+d.lastTopic < remembered/2 {
		return d, x.remember(ctx, tx)
	}
	return d, nil
}

// remember reads all words and subjects, so that what is new need not be looked for.
func (x *Index) remember(ctx context.Context, tx *sql.Tx) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := each(ctx, tx, func(scan func(...any) error) error {
		var id int64
		var b []byte
		err := scan(&id, &b)
		x.ids[string(b)] = id
		return err
	}, `SELECT id, word FROM reeve_index_word`)
	if err != nil {
		return err
	}
	err = each(ctx, tx, func(scan func(...any) error) error {
		id, s, err := scanSubject(scan)
		x.found[s] = id
		return err
	}, `SELECT * FROM reeve_index_subject`)
	x.whole = err == nil
	return err
}

// enter inserts what is new.
func (d *words) enter(ctx context.Context, tx *sql.Tx) error {
	if err := d.x.insert(ctx, tx, "reeve_index_word", "", d.newWords); err != nil {
		return err
	}
	return d.x.insert(ctx, tx, "reeve_index_subject", "", d.newTopics)
}

// id is that of a word, which is entered when it is new.
func (d *words) id(ctx context.Context, word string) (int64, error) {
	id, err := d.x.look(ctx, d.tx, word)
	if err != nil || id != 0 {
		return id, err
	}
	d.lastWord++
	d.x.mu.Lock()
	d.x.ids[word] = d.lastWord
	d.x.mu.Unlock()
	d.newWords = append(d.newWords, []any{d.lastWord, find([]byte(word)), []byte(word)})
	return d.lastWord, nil
}

// ids are those of several words.
func (d *words) ids(ctx context.Context, all ...string) (ids []any, err error) {
	for _, w := range all {
		id, err := d.id(ctx, w)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// subject is the id of a key's subject, which is entered when it is new.
func (d *words) subject(ctx context.Context, k Key) (int64, error) {
	k.Hour, k.Estate = 0, ""
	if id := d.subjects[k]; id != 0 {
		return id, nil
	}
	var s subject
	for i, c := range subjectColumns() {
		var err error
		if s[i], err = d.id(ctx, *k.member(c)); err != nil {
			return 0, err
		}
	}
	id, err := d.number(ctx, s)
	d.subjects[k] = id
	return id, err
}

func (d *words) number(ctx context.Context, s subject) (id int64, err error) {
	if id = d.x.found[s]; id != 0 {
		return id, nil
	}
	b, _ := json.Marshal(s)
	if !d.x.whole {
		err = each(ctx, d.tx, func(scan func(...any) error) error {
			n, have, err := scanSubject(scan)
			if err == nil && have == s {
				id = n
			}
			return err
		}, `SELECT * FROM reeve_index_subject WHERE find = $1`, find(b))
	}
	if err == nil && id == 0 {
		d.lastTopic++
		id = d.lastTopic
		row := []any{id, find(b)}
		for _, w := range s {
			row = append(row, w)
		}
		d.newTopics = append(d.newTopics, row)
	}
	d.x.found[s] = id
	return id, err
}

func scanSubject(scan func(...any) error) (id int64, s subject, err error) {
	var hash int64
	to := []any{&id, &hash}
	for i := range s {
		to = append(to, &s[i])
	}
	err = scan(to...)
	return id, s, err
}
