package estate

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/reevehq/reeve/internal/statement"
)

// sshKeygen signs with the program ssh-keygen.
type sshKeygen struct {
	file   string // of the private key, or of the public one of a key that ssh-agent holds
	public string // instead of a file: the line of the public key of one that ssh-agent holds
}

// OpenSSH returns a signer whose signatures ssh-keygen makes (OpenSSH 8.2 or later): with the private key in file, or through ssh-agent
// when file holds a public key. ssh-keygen itself asks for a passphrase, a PIN or a touch. keys are the person's in the charter.
func OpenSSH(person string, keys []statement.Key, file string) (*Signer, error) {
	if keys = OfType(keys, "ssh"); len(keys) == 0 {
		return nil, fmt.Errorf("the charter has no OpenSSH key of %s: reeve key add %s --ssh FILE prints what to add", person, person)
	}
	return &Signer{Person: person, Keys: keys, Hand: sshKeygen{file: file}}, nil
}

// Agent returns a signer for the first of the person's OpenSSH keys with which the running ssh-agent signs.
func Agent(person string, keys []statement.Key) (*Signer, error) {
	keys = OfType(keys, "ssh")
	if len(keys) == 0 || os.Getenv("SSH_AUTH_SOCK") == "" {
		return nil, ErrNoAgent
	}
	held, err := exec.Command("ssh-add", "-L").Output() // exits with 1 when it holds none
	if err != nil && len(held) == 0 {
		return nil, ErrNoAgent
	}
	for i, k := range keys {
		if strings.Contains("\n"+string(held), "\n"+k.Public) {
			return &Signer{Person: person, Keys: keys[i : i+1], Hand: sshKeygen{public: k.Public}}, nil
		}
	}
	return nil, ErrNoAgent
}

// ErrNoAgent means that no ssh-agent runs that holds a key of the person.
var ErrNoAgent = errors.New("no ssh-agent holds a key of that person")

// OfType are the keys of one type.
func OfType(keys []statement.Key, kind string) (some []statement.Key) {
	for _, k := range keys {
		if k.Type == kind {
			some = append(some, k)
		}
	}
	return some
}

// Sign has ssh-keygen sign. The message goes through a file: from standard input ssh-keygen would also read a PIN.
func (s sshKeygen) Sign(m *Message) (sig statement.Signature, err error) {
	dir, err := os.MkdirTemp("", "reeve-")
	if err != nil {
		return sig, err
	}
	defer os.RemoveAll(dir)
	message, file := filepath.Join(dir, "message"), s.file
	err = os.WriteFile(message, statement.PAE(m.PayloadType, m.Payload), 0o600)
	if s.public != "" {
		file = filepath.Join(dir, "id.pub")
		err = errors.Join(err, os.WriteFile(file, []byte(s.public+"\n"), 0o600))
	}
	if err != nil {
		return sig, err
	}
	cmd := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", statement.Namespace, "-f", file, message)
	cmd.Stderr = os.Stderr // it asks for a touch there
	err = cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return sig, errors.New("ssh-keygen is not installed: it is part of OpenSSH (Debian: openssh-client)")
	}
	if err != nil {
		return sig, fmt.Errorf("ssh-keygen did not sign with %s, and said why: %w", file, err)
	}
	out, err := os.ReadFile(message + ".sig")
	if err != nil {
		return sig, err
	}
	block, rest := pem.Decode(out)
	if block == nil || block.Type != "SSH SIGNATURE" || len(bytes.TrimSpace(rest)) > 0 {
		return sig, errors.New("ssh-keygen wrote no signature")
	}
	return statement.Signature{Sig: block.Bytes}, nil
}
