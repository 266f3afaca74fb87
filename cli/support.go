package cli

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/program"
)

var supportCommands = []local{
	{noun: "support", verb: "dump", short: "Write what helps to find out what is wrong with the cluster into one file", run: dumpSupport,
		long: "\nThe file, a .tar.gz that its owner alone can read, holds the rows of the database, the\nend of every program's log, its " +
			"metrics and what it is doing, and what the data planes say\nof themselves. Programs that do not answer have a file that says " +
			"so, and cost some 30 s.\n\nSecrets are taken out: tokens, keys, passwords in addresses, and values that are called like\none. " +
			"Names of nodes, arrays and hosts, their addresses, labels and descriptions stay: look\nthrough it before you give it away.",
		example: "  vda_cli support dump\n  vda_cli support dump --file /tmp/vda-support.tar.gz",
		flags: func(fs *pflag.FlagSet, o *options) {
			fs.StringVar(&o.file, "file", "", "`FILE` to write, which must not be there; vda-support-TIME.tar.gz here when not given")
		}},
}

// maxBundle bounds a bundle, in bytes before it is compressed.
const maxBundle = 4 << 30

func dumpSupport(s *session, cmd *cobra.Command, _ []string, o *options) (err error) {
	if err := s.useContext(cmd); err != nil {
		return err
	}
	c, err := s.client(s.timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	at := time.Now().UTC()
	name := cmp.Or(o.file, "vda-support-"+at.Format("20060102T150405Z")+".tar.gz")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--file %s: %w", name, cause(err))
	}
	defer func() {
		if err != nil {
			_ = f.Close() // a half is of no use
			_ = os.Remove(name)
		}
	}()
	z := gzip.NewWriter(f)
	b := &bundleFile{tar: tar.NewWriter(z), at: at, root: strings.TrimSuffix(path.Base(name), ".tar.gz")}
	if err := b.write(c, cmd); err != nil {
		return err
	}
	if err := errors.Join(b.tar.Close(), z.Close(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("--file %s: %w", name, cause(err))
	}
	for _, p := range b.problems {
		fmt.Fprintln(s.stderr, "vda_cli: note:", p)
	}
	_, err = fmt.Fprintln(s.stdout, name)
	return err
}

// bundleFile is a bundle that is being written.
type bundleFile struct {
	tar      *tar.Writer
	at       time.Time
	root     string // folder of all files
	size     int
	problems []string // what could not be had
}

// write writes all that a portal says.
func (b *bundleFile) write(c *client.Client, cmd *cobra.Command) error {
	var name string
	var text bytes.Buffer
	flush := func() error {
		if name == "" {
			return nil
		}
		err := b.add(name, text.Bytes())
		text.Reset()
		return err
	}
	for m, err := range c.Support(cmd.Context()) {
		if err != nil {
			return callFailure(err)
		}
		if b.size += len(m.Content); b.size > maxBundle {
			return fmt.Errorf("the bundle would have more than %d bytes", int64(maxBundle))
		}
		if m.Name != name {
			if err := flush(); err != nil {
				return err
			}
			name = m.Name
		}
		text.Write(m.Content)
	}
	if err := flush(); err != nil {
		return err
	}
	return b.add("client.txt", fmt.Appendf(nil, "vda_cli %s\nportal %s\nat %s\n", program.Version(), c.Portal(), b.at.Format(time.RFC3339)))
}

// add adds a file. A portal names no place outside of the bundle.
func (b *bundleFile) add(name string, text []byte) error {
	inside := strings.TrimPrefix(path.Clean("/"+name), "/")
	if what, is := strings.CutSuffix(inside, ".error"); is {
		b.problems = append(b.problems, what+": "+strings.TrimSpace(oneLine(string(text))))
	}
	h := &tar.Header{Name: path.Join(b.root, inside), Mode: 0o600, Size: int64(len(text)), ModTime: b.at, Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write the bundle: %w", cause(err))
	}
	if _, err := io.Copy(b.tar, bytes.NewReader(text)); err != nil {
		return fmt.Errorf("write the bundle: %w", cause(err))
	}
	return nil
}
