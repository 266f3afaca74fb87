package tgtcli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
	storecheck "github.com/virtual-disk-array/vda/blobstore/check"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/program"
)

// checkCommand verifies the lvstore on a file or block device that no data
// plane uses.
func checkCommand() *cobra.Command {
	blockSize, asJSON, repairs := uint32(4096), false, false
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Verify the lvstore on a file or block device that is not in use",
		Long: `check reads the metadata of the lvstore in FILE, writes nothing, and says what
is wrong: clusters used twice, leaked or out of range, damaged metadata pages,
broken chains. What a load after a power cut repairs by itself is a note.
The exit code is 1 when anything graver was found.

With --repair it then finishes what a crash or power cut has left unfinished and
leaves the lvstore as a clean shutdown does, for SPDK to load: SPDK 26.05 crashes
each time it loads some lvstores that were cut in a snapshot or in the deletion
of one. A damaged lvstore is left alone.`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || args[0] == "":
				return errors.New("name the file or block device to check")
			case len(args) == 1:
				return nil
			}
			return fmt.Errorf("unexpected argument %q: check takes one file or block device", args[1])
		},
		RunE: func(c *cobra.Command, args []string) error {
			if repairs && asJSON {
				return errors.New("--repair prints no JSON; run check --json afterwards")
			}
			err := check(c.OutOrStdout(), args[0], blockSize, asJSON)
			if err == nil && repairs {
				err = repair(c.OutOrStdout(), args[0], blockSize)
			}
			return err
		},
	}
	c.Flags().Uint32Var(&blockSize, "block-size", blockSize, "`BYTES` of a block of the bdev that the lvstore was made on")
	c.Flags().BoolVar(&asJSON, "json", false, "write the findings as JSON")
	c.Flags().BoolVar(&repairs, "repair", false, "finish what a crash has left unfinished, and unload the lvstore clean")
	program.Typed(c.Flags(), "repair")
	return c
}

// open opens a file that no data plane uses; done closes it.
func open(file string, blockSize uint32, readOnly bool) (h *bdev.Handle, done func(), err error) {
	if blockSize < 512 || blockSize > 65536 || bits.OnesCount32(blockSize) != 1 {
		return nil, nil, fmt.Errorf("--block-size %d: it must be a power of two from 512 to 65536", blockSize)
	}
	dev, err := aio.New(aio.Config{Name: "check", Filename: file, BlockSize: blockSize, ReadOnly: readOnly})
	if err != nil {
		return nil, nil, unopened(file, blockSize, err)
	}
	reg := bdev.NewRegistry()
	if err := reg.Register(dev); err != nil {
		return nil, nil, err
	}
	h, err = reg.Open("check", nil)
	if err != nil {
		reg.Close()
		return nil, nil, err
	}
	return h, func() { h.Close(); reg.Close() }, nil
}

// unopened says why a file was not opened, without the bdev, which is nobody's
// but check's.
func unopened(file string, blockSize uint32, err error) error {
	errno := syscall.EIO
	errors.As(err, &errno)
	switch errno {
	case syscall.ENOENT:
		return fmt.Errorf("%s: there is no such file or device", file)
	case syscall.EINVAL:
		return fmt.Errorf("%s: it must be a regular file or a block device, with one block of %d bytes (--block-size) at least", file, blockSize)
	case syscall.EBUSY:
		return fmt.Errorf("%s is in use: a data plane or another program has it open; stop that first", file)
	}
	return fmt.Errorf("%s cannot be opened: %w", file, errno)
}

// repair finishes what a load finds unfinished.
func repair(w io.Writer, file string, blockSize uint32) error {
	h, done, err := open(file, blockSize, false)
	if err != nil {
		return err
	}
	defer done()
	quiet := slog.New(slog.DiscardHandler) // check has said what there is
	s, err := blobstore.Load(h, format.LvstoreType, quiet)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	lines := s.Unfinished()
	if err := errors.Join(s.Repair(), s.Unload()); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, l := range lines {
		fmt.Fprintf(w, "finished: %s\n", l)
	}
	fmt.Fprintf(w, "repaired: the lvstore is as after a clean shutdown\n")
	return nil
}

func check(w io.Writer, file string, blockSize uint32, asJSON bool) error {
	h, done, err := open(file, blockSize, true)
	if err != nil {
		return err
	}
	defer done()
	report, err := storecheck.Store(h)
	switch {
	case storecheck.IsNoStore(err):
		return fmt.Errorf("%s: there is no lvstore, or its super block is damaged: %w", file, err)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	if asJSON {
		err = report.JSON(w)
	} else {
		err = report.Print(w)
	}
	if err == nil && !report.Healthy() {
		err = fmt.Errorf("%s: the lvstore is damaged", file)
	}
	return err
}
