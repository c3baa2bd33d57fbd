package endpoint

// form is application/x-www-form-urlencoded. It leaves no copy of itself behind by growing.
type form []byte

func (f *form) add(name string, value []byte) {
	if len(*f) > 0 {
		f.put('&')
	}
	f.escape([]byte(name))
	f.put('=')
	f.escape(value)
}

// escape appends text. What is escaped beyond need is read alike by everybody.
func (f *form) escape(text []byte) {
	const hex = "0123456789ABCDEF"
	for _, c := range text {
		switch {
		case c == ' ':
			f.put('+')
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
			f.put(c)
		default:
			f.put('%', hex[c>>4], hex[c&15])
		}
	}
}

func (f *form) put(c ...byte) {
	if cap(*f)-len(*f) < len(c) {
		larger := make([]byte, len(*f), 2*cap(*f)+512)
		copy(larger, *f)
		clear(*f)
		*f = larger
	}
	*f = append(*f, c...)
}
