package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/hop"
)

const idleStreams = 1000

// TestIdleStreams measures what an idle stream costs the gateway. Clients and custodian are another process, so that only the
// gateway's memory is counted.
func TestIdleStreams(t *testing.T) {
	if at := os.Getenv("IDLE_TEST_PEER"); at != "" {
		idlePeer(t, at)
		return
	}
	socket := filepath.Join(t.TempDir(), "s")
	r := newRig(t, nil, func(r *rig) { r.parts.Custodian = hop.NewClient(hop.ClientConfig{Dial: hop.Unix(socket)}) })
	defer r.parts.Custodian.(*hop.Client).Close()
	peer := exec.Command(os.Args[0], "-test.run=^TestIdleStreams$")
	peer.Env = append(os.Environ(), "IDLE_TEST_PEER="+socket+" "+r.server.Listener.Addr().String())
	peer.Stderr = os.Stderr
	stdin, err := peer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := peer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	defer peer.Wait()
	defer stdin.Close()
	say := bufio.NewReader(stdout)
	expect(t, say, "listening")
	before := memory()
	io.WriteString(stdin, "open\n")
	expect(t, say, "open")
	each := (memory() - before) / idleStreams
	t.Logf("%d bytes in the gateway for each of %d idle streams", each, idleStreams)
	// 21 KiB of it are net/http's: two goroutines and three buffers.
	if !race && each > 32<<10 {
		t.Errorf("an idle stream takes %d bytes, want at most 32 KiB", each)
	}
}

// memory is heap and stacks in use, after collection.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func expect(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); err != nil || strings.TrimSpace(got) != want {
		t.Fatalf("the peer said %q (%v), want %q", got, err, want)
	}
}

// idlePeer is the custodian that begins streams and leaves them open, and the clients that read them.
func idlePeer(t *testing.T, at string) {
	socket, gateway, _ := strings.Cut(at, " ")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := hop.NewServer(hop.ServerConfig{
		Peers: func(hop.Peer) string { return "g1" },
		Handler: func(ctx context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
			w.Head(200, eventStream)
			io.WriteString(w, chunk)
			<-ctx.Done()
		},
	})
	go server.Serve(l)
	fmt.Println("listening")
	in := bufio.NewReader(os.Stdin)
	expect(t, in, "open")
	for range idleStreams {
		conn, err := net.Dial("tcp", gateway)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: rv_research\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(chatStream), chatStream)
		var got []byte
		for piece := make([]byte, 4096); !bytes.Contains(got, []byte("\n\n")) || !bytes.Contains(got, []byte("data: ")); {
			n, err := conn.Read(piece)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, piece[:n]...)
		}
	}
	fmt.Println("open")
	in.ReadString('\n')
}
