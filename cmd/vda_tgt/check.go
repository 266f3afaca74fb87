package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"vda/bdev"
	"vda/bdev/aio"
	storecheck "vda/blobstore/check"
)

// checkCommand verifies the lvstore on a file or block device that no data
// plane uses.
func checkCommand() *cobra.Command {
	blockSize, asJSON := uint32(4096), false
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Verify the lvstore on a file or block device that is not in use",
		Long: `check reads the metadata of the lvstore in FILE, writes nothing, and says what
is wrong: clusters used twice, leaked or out of range, damaged metadata pages,
broken chains. What a load after a power cut repairs by itself is a note.
The exit code is 1 when anything graver was found.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return check(c.OutOrStdout(), args[0], blockSize, asJSON)
		},
	}
	c.Flags().Uint32Var(&blockSize, "block-size", blockSize, "bytes of a block of the bdev that the lvstore was made on")
	c.Flags().BoolVar(&asJSON, "json", false, "write the findings as JSON")
	return c
}

func check(w io.Writer, file string, blockSize uint32, asJSON bool) error {
	dev, err := aio.New(aio.Config{Name: "check", Filename: file, BlockSize: blockSize, ReadOnly: true})
	if err != nil {
		return err
	}
	reg := bdev.NewRegistry()
	if err := reg.Register(dev); err != nil {
		return err
	}
	defer reg.Close()
	h, err := reg.Open("check", nil)
	if err != nil {
		return err
	}
	defer h.Close()
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
