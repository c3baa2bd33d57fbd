package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Ports are the TCP ports of an estate's processes on 127.0.0.1.
type Ports struct {
	Gateway   int `yaml:"gateway"`
	Authority int `yaml:"authority"`
	Auditor   int `yaml:"auditor"`
	Upstream  int `yaml:"upstream,omitempty"` // demo only
}

// DefaultPort is the first port of the first block.
const DefaultPort = 7800

type namedPort struct {
	name string
	port int
}

func (p Ports) list() []namedPort {
	all := []namedPort{{"gateway", p.Gateway}, {"authority", p.Authority}, {"auditor", p.Auditor}}
	if p.Upstream != 0 {
		all = append(all, namedPort{"upstream", p.Upstream})
	}
	return all
}

// ChoosePorts takes the first block first, first+1, first+2, first+9 that is free, trying each tenth port; for first 0 it begins
// somewhere at random, below the ports that systems give to whoever asks for any (32768 on Linux, 49152 by RFC 6335).
func ChoosePorts(first int) (Ports, error) {
	if first == 0 {
		first = 10_000 + 10*rand.IntN(2_000)
	}
	for base := first; base < first+200; base += 10 {
		p := Ports{base, base + 1, base + 2, base + 9}
		if err := p.Free(); err == nil {
			return p, nil
		} else if !errors.As(err, new(*TakenError)) {
			return Ports{}, err
		}
	}
	return Ports{}, fmt.Errorf("no four free ports from %d on; name another first port with --port", first)
}

// TakenError is a port that something else listens on.
type TakenError struct {
	Name   string // of the process that needs it
	Port   int
	Holder string // such as "pid 123 (nginx)"
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("port %d, which the %s needs, is taken by %s\nStop that, or start another estate, which gets ports of its own: reeve up --dir ./demo2",
		e.Port, e.Name, e.Holder)
}

// Free returns a *TakenError for the first port that is not free.
func (p Ports) Free() error {
	for _, n := range p.list() {
		l, err := net.Listen("tcp", Local(n.port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return &TakenError{n.name, n.port, portHolder(n.port)}
		}
		if err != nil {
			return fmt.Errorf("trying port %d for the %s: %w", n.port, n.name, err)
		}
		l.Close()
	}
	return nil
}

func Local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
