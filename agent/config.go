package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/nvme"
)

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
	// Transport holds parameters of nvmf_create_transport beyond trtype.
	Transport map[string]any
	// StateDir keeps what the agent must remember; see State.
	StateDir string
	// ForgetVersions has Main call State.ForgetVersions and end.
	ForgetVersions bool
	// AioDirs are the absolute paths of the folders below which a disk node's
	// aio pds may lie. Default: /dev and the folder disks in StateDir.
	AioDirs []string
	// CheckInterval is how often lost objects are looked for. Default 3 s.
	CheckInterval time.Duration
	// WatchInterval is how often the data plane's start id is looked at,
	// which asks nothing of it. Default 250 ms.
	WatchInterval time.Duration
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
	}
	if err := checkListener(&c.Address); err != nil {
		return fmt.Errorf("listener-conf: %w", err)
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
// registers, trtype and adrfam in the case of the tutorial.
func checkListener(l *vda.Listener) error {
	l.TrType, l.AdrFam = strings.ToLower(l.TrType), strings.ToLower(l.AdrFam)
	if l.TrType != "tcp" {
		return fmt.Errorf(`trtype %q must be "tcp"`, l.TrType)
	}
	_, at, err := nvme.ParseReachable(l.AdrFam, l.TrAddr)
	switch {
	case err != nil:
		return err
	case l.AdrFam == "":
		return errors.New(`adrfam is missing; it must be "ipv4" or "ipv6"`)
	}
	n, err := strconv.ParseUint(l.TrSvcID, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("trsvcid %q must be a port from 1 to 65535", l.TrSvcID)
	}
	l.TrAddr, l.TrSvcID = at, strconv.FormatUint(n, 10) // as the portal has them
	return nil
}

// ErrHelp is returned by ParseArgs after it has printed the usage.
var ErrHelp = pflag.ErrHelp

// ParseArgs reads the command line of an agent: name is the program's, port
// its default port and svc the example port of its data plane.
func ParseArgs(name string, port, svc int, args []string, usage io.Writer) (Config, error) {
	c := Config{}
	var conf, transport string
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SetOutput(usage)
	fs.SortFlags = false
	c.Add(fs, port, "gRPC")
	fs.StringVar(&c.Socket, "sock-path", "", "JSON-RPC socket of the data plane, spdk_tgt or vda_tgt (required)")
	fs.DurationVar(&c.SocketWait, "sock-wait", 0, "how long to wait at start for a data plane that is not there yet")
	fs.StringVar(&conf, "listener-conf", "", fmt.Sprintf(`NVMe/TCP address of the data plane as JSON (required), such as '{"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"%d"}'`, svc))
	fs.StringVar(&transport, "transport-conf", "{}", "parameters of nvmf_create_transport as JSON, for a data plane that has no TCP transport yet")
	fs.StringVar(&c.StateDir, "state-dir", "", fmt.Sprintf("directory for what the agent must remember (default /var/lib/vda/%s-<port>)", name))
	fs.BoolVar(&c.ForgetVersions, "forget-versions", false, "instead of serving, forget the version and terms in --state-dir, so that the next request is taken whatever its own are; see docs/daemons")
	if name == "vda_dn_agent" {
		fs.StringArrayVar(&c.AioDirs, "aio-dir", nil, "folder below which the files and block devices of aio pds may lie, "+
			"symbolic links resolved; may be given again (default /dev and <state-dir>/disks)")
	}
	fs.Usage = func() {
		fmt.Fprintf(usage, "usage: %s --sock-path PATH --listener-conf JSON [flags]\n\nMakes one data plane match the desired state that portal and monitor send,\nand reports what is.\n\n%s", name, fs.FlagUsages())
	}
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if c.StateDir == "" {
		c.StateDir = filepath.Join("/var/lib/vda", fmt.Sprintf("%s-%d", name, c.Port))
	}
	if c.ForgetVersions {
		return c, nil
	}
	for _, f := range []string{"sock-path", "listener-conf"} {
		if !fs.Changed(f) {
			return c, fmt.Errorf("--%s is required", f)
		}
	}
	if err := c.Check(); err != nil {
		return c, err
	}
	if err := decodeStrict(conf, &c.Address); err != nil {
		return c, fmt.Errorf(`--listener-conf %s: %w; it must be a JSON object with trtype, traddr, adrfam and trsvcid`, conf, err)
	}
	if err := decodeStrict(transport, &c.Transport); err != nil {
		return c, fmt.Errorf("--transport-conf %s: %w; it must be a JSON object", transport, err)
	}
	if t, ok := c.Transport["trtype"]; ok {
		if s, _ := t.(string); !strings.EqualFold(s, "tcp") {
			return c, fmt.Errorf(`--transport-conf: trtype %v must be "tcp"`, t)
		}
		delete(c.Transport, "trtype")
	}
	if c.Listener != "" && net.ParseIP(c.Listener) == nil {
		if _, err := net.LookupHost(c.Listener); err != nil {
			return c, fmt.Errorf("--listener %q must be an address of this machine", c.Listener)
		}
	}
	return c, c.Validate()
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
