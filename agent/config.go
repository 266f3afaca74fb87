package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/member"
)

// maxRebuildMB is the largest bound of what is copied, in MiB per second, as of an array.
const maxRebuildMB = 1 << 20

// Config of an agent.
type Config struct {
	// Flags say where the agent serves gRPC.
	daemon.Flags
	// Socket is the path of the data plane's JSON-RPC socket.
	Socket string
	// Connect replaces Socket when not nil: it makes a client of a data plane
	// that is not behind a socket. Plane makes two.
	Connect func() (Client, error)
	// SocketWait is how long to wait at start for a data plane that is not
	// there yet. Default 0: not at all.
	SocketWait time.Duration
	// Address is the NVMe/TCP address on which the data plane listens.
	Address vda.Listener
	// Backend is the address on which a controller node's data plane listens for other
	// controllers, and for no hosts. Zero: there is none, and they connect to Address.
	Backend vda.Listener
	// Transport holds parameters of nvmf_create_transport beyond trtype.
	Transport map[string]any
	// StateDir keeps what the agent must remember; see State.
	StateDir string
	// ForgetVersions has Main call State.ForgetVersions and end.
	ForgetVersions bool
	// Member says who the agent is; its folder is that of the name tls in StateDir.
	Member member.Flags
	// RebuildMB is how many MiB per second a controller node's data plane copies at most to legs of
	// all mirrors together, repairs and compares, beside the bound of each array. 0: no bound.
	RebuildMB uint32
	// AioDirs are the absolute paths of the folders below which a disk node's
	// aio pds may lie. Default: /dev and the folder disks in StateDir.
	AioDirs []string
	// DiskErrorHold is for how long a disk node's pd is in error after the last I/O
	// error of its disk. Default 1 h.
	DiskErrorHold time.Duration
	// PlaneUnit is the unit of systemd that the data plane runs as, whose journal a support bundle
	// has when the data plane does not give its log away. Default: none.
	PlaneUnit string
	// CheckInterval is how often lost objects are looked for. Default 3 s.
	CheckInterval time.Duration
	// WatchInterval is how often the data plane's start id is looked at,
	// which asks nothing of it. Default 250 ms.
	WatchInterval time.Duration
	// KeepAlive is the keep-alive time-out of a controller node's connections to vds
	// and to primaries. Default: what suits the data plane, 2 or 3 s.
	KeepAlive time.Duration
	// CallTimeout bounds one JSON-RPC call. Default 15 s.
	CallTimeout time.Duration
	// Log gets what the agent does. Default slog.Default().
	Log *slog.Logger
}

// Validate checks c and fills in defaults.
func (c *Config) Validate() error {
	switch {
	case c.Socket == "":
		return errors.New("sock-path must name the data plane's JSON-RPC socket")
	case c.StateDir == "":
		return errors.New("state-dir must name a directory")
	case c.SocketWait < 0:
		return fmt.Errorf("sock-wait %v must not be negative", c.SocketWait)
	case c.DiskErrorHold < 0:
		return fmt.Errorf("disk-error-hold %v must not be negative", c.DiskErrorHold)
	case c.RebuildMB > maxRebuildMB:
		return fmt.Errorf("rebuild-mbps %d must be a number of MiB per second, 1 to %d, or 0 for no bound", c.RebuildMB, maxRebuildMB)
	case c.PlaneUnit != "" && !unitName.MatchString(c.PlaneUnit):
		return fmt.Errorf("data-plane-unit %q must be the name of a unit of systemd, such as vda-dn-tgt.service", c.PlaneUnit)
	}
	if err := checkListener("listener-conf", &c.Address); err != nil {
		return err
	}
	if c.Backend != (vda.Listener{}) {
		if err := checkListener("backend-listener-conf", &c.Backend); err != nil {
			return err
		}
		if c.Backend.Same(c.Address) {
			return fmt.Errorf("backend-listener-conf: %s port %s is that of listener-conf, where hosts connect; give another address, or none",
				c.Backend.TrAddr, c.Backend.TrSvcID)
		}
	}
	for _, dir := range c.AioDirs {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("aio-dir %q must be an absolute path", dir)
		}
	}
	if len(c.AioDirs) == 0 {
		own, err := c.DisksDir()
		if err != nil {
			return fmt.Errorf("state-dir %q: %w", c.StateDir, err)
		}
		c.AioDirs = []string{"/dev", own}
	}
	if c.DiskErrorHold == 0 {
		c.DiskErrorHold = time.Hour
	}
	if c.CheckInterval <= 0 {
		c.CheckInterval = 3 * time.Second
	}
	if c.WatchInterval <= 0 {
		c.WatchInterval = 250 * time.Millisecond
	}
	if c.CallTimeout <= 0 {
		c.CallTimeout = 15 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}

// DisksDir is the folder in StateDir for files that are disks, which is one of
// AioDirs by default.
func (c *Config) DisksDir() (string, error) { return filepath.Abs(filepath.Join(c.StateDir, disksDir)) }

// checkListener checks an address and brings it to the spelling that the portal
// registers.
func checkListener(field string, l *vda.Listener) error {
	if n, err := strconv.ParseUint(l.TrSvcID, 10, 16); err == nil {
		l.TrSvcID = strconv.FormatUint(n, 10)
	}
	return l.Validate(field)
}

// decodeStrict decodes one JSON value without unknown fields or trailing text.
func decodeStrict(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("incomplete JSON")
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// checkSocket says in one line why a socket cannot be used.
func checkSocket(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("sock-path: %w; start the data plane first or give --sock-wait", err)
	}
	if fi.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("sock-path: %s is not a socket", path)
	}
	return nil
}
