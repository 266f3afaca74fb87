// Package daemon is what VDA's programs have in common and that takes no
// library of RPC: the flags that say where to serve and what to log, and the
// words in which they say that they cannot; signals; and a log that neither
// fails nor blocks. What is served is packages daemon/httpd's and rpc's.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

// Flags are --listener and --port, and those of the log.
type Flags struct {
	Listener string
	Port     int // 0 takes a free one
	// ScrapeTokenFile is --scrape-token-file, of programs whose users have no tokens.
	ScrapeTokenFile string
	log             LogFlags
	given           func() bool // that the command line, the environment or a file has --listener
}

// loopback is where a daemon serves that was not told where: whom the machine's networks
// reach does not reach it unless somebody has said so.
const loopback = "127.0.0.1"

// Add defines the flags; port is the default one and serves says what is
// served on it.
func (f *Flags) Add(fs *pflag.FlagSet, port int, serves string) {
	fs.StringVar(&f.Listener, "listener", loopback, "IP `ADDRESS` to serve on; 0.0.0.0 is all of this machine's, and the default is reached "+
		"from this machine alone")
	f.given = func() bool { return fs.Changed("listener") }
	fs.IntVar(&f.Port, "port", port, "TCP `PORT` of "+serves+"; 0 takes a free one")
	f.log.Add(fs)
}

// AddScrape defines --scrape-token-file.
func (f *Flags) AddScrape(fs *pflag.FlagSet) {
	fs.StringVar(&f.ScrapeTokenFile, "scrape-token-file", "", "`FILE` with a token of 16 to 256 characters in its first line: who shows it "+
		"(Authorization: Bearer) over TLS gets /metrics of a secured daemon, and nothing else")
}

// ScrapeToken reads the token, "" without a file.
func (f *Flags) ScrapeToken() (string, error) {
	if f.ScrapeTokenFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(f.ScrapeTokenFile)
	if err != nil {
		return "", fmt.Errorf("--scrape-token-file: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	token := strings.TrimSpace(line)
	if n := len(token); n < 16 || n > 256 {
		return "", fmt.Errorf("--scrape-token-file %s: its first line has %d characters, it must have from 16 to 256", f.ScrapeTokenFile, n)
	}
	return token, nil
}

// Check reports a value that cannot be right.
func (f *Flags) Check() error {
	if f.Port < 0 || f.Port > 65535 {
		return fmt.Errorf("--port %d must be from 0 to 65535", f.Port)
	}
	return f.log.Check()
}

// Log returns the daemon's log; the flags have been checked.
func (f *Flags) Log(w io.Writer) *slog.Logger { return f.log.Log(w, nil) }

// Alone reports that nobody has said where to serve, so that this machine alone is served.
func (f *Flags) Alone() bool { return f.given != nil && !f.given() }

// SayAlone warns in one line when the daemon is Alone.
func (f *Flags) SayAlone(log *slog.Logger) {
	if f.Alone() {
		log.Warn("this machine alone is served: give --listener an address that others reach, or 0.0.0.0 for all of them",
			"listener", f.Listener)
	}
}

// Listen takes the port.
func (f *Flags) Listen(ctx context.Context) (net.Listener, error) {
	return Listen(ctx, "", f.Listener, f.Port)
}

// Listen takes a port that flags name, whose names begin with prefix: --listener
// and --port for none. Go sets no SO_REUSEPORT, so a port that another process
// serves is refused.
func Listen(ctx context.Context, prefix, listener string, port int) (net.Listener, error) {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", net.JoinHostPort(listener, strconv.Itoa(port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--%sport %d is in use on %s: another process serves it", prefix, port, listener)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on --%slistener %s --%sport %d: %w", prefix, listener, prefix, port, err)
	}
	return lis, nil
}
