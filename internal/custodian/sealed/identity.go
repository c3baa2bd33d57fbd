package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/custodian/state"
)

// Identity says where the custodian's age identity is: exactly one of File and Credential. A TPM or a key service is one more
// source of a Key.
type Identity struct {
	File string `yaml:"file"` // age identity file, mode 0600
	// PassphraseFD is a descriptor that holds the passphrase of File, which then is encrypted with it (age -p). 0 means none.
	PassphraseFD int    `yaml:"passphrase_fd"`
	Credential   string `yaml:"credential"` // name of a systemd credential, read from $CREDENTIALS_DIRECTORY
}

// Key opens what was sealed to the custodian, and seals the custodian's own state.
type Key struct {
	age.Identity                // the newest
	Recipient    age.Recipient  // its recipient
	Public       string         // the recipient as the custody statement names it, "age1…"
	Older        []age.Identity // that open what was sealed before
}

// open decrypts what was sealed to any of the identities.
func (k *Key) open(ciphertext []byte) (io.Reader, error) {
	return age.Decrypt(bytes.NewReader(ciphertext), append([]age.Identity{k.Identity}, k.Older...)...)
}

// ErrIdentity is wrapped when the custodian's identity cannot be used.
var ErrIdentity = errors.New("the custodian's identity cannot be used")

// Read reads the identity.
func (i Identity) Read() (*Key, error) {
	key, err := i.read()
	if err != nil {
		return nil, fmt.Errorf("%w: %w; without it no sealed secret can be opened", ErrIdentity, err)
	}
	return key, nil
}

func (i Identity) read() (*Key, error) {
	text, err := os.ReadFile(i.Path())
	if err == nil && i.File != "" { // systemd mounts a credential's folder for the service alone; its modes are systemd's affair
		err = state.Private(i.File)
	}
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if i.PassphraseFD > 0 {
		if text, err = decrypt(text, i.PassphraseFD); err != nil {
			return nil, err
		}
		defer clear(text)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("it is not an age identity") // the parser's error may quote the line
	}
	for _, id := range ids {
		if _, ok := id.(*age.X25519Identity); !ok {
			return nil, errors.New("it must hold X25519 identities, as age-keygen writes them, the newest last")
		}
	}
	x := ids[len(ids)-1].(*age.X25519Identity)
	return &Key{Identity: x, Recipient: x.Recipient(), Public: x.Recipient().String(), Older: ids[:len(ids)-1]}, nil
}

// Path is the file that the identity is read from, again whenever the configuration is.
func (i Identity) Path() string {
	if i.Credential != "" {
		return filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), filepath.Base(i.Credential))
	}
	return i.File
}

func decrypt(text []byte, fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "passphrase")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	}
	defer f.Close()
	passphrase, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	defer clear(passphrase)
	scrypt, err := age.NewScryptIdentity(string(bytes.TrimRight(passphrase, "\r\n")))
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	r, err := age.Decrypt(bytes.NewReader(text), scrypt)
	if err != nil {
		return nil, fmt.Errorf("decrypting the identity with the passphrase: %w", err)
	}
	return io.ReadAll(io.LimitReader(r, 64<<10))
}
