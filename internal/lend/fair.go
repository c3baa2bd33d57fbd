package lend

// Fair reports whether a borrower stays within its share when it takes n more of what there is most of. own and all are what it and
// everybody have with n. One may have three times what is left free: alone three quarters, and however much some take, the next one
// finds something. Nobody has to know how many there are.
func Fair(own, all, n, most int64) bool { return all <= most && own <= 3*(most-all+n) }
