package main

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/spf13/cobra"

	"vda/bdev"
	"vda/bdev/aio"
	"vda/blobstore"
)

// checkCommand verifies the lvstore on a file or block device that no data
// plane uses.
func checkCommand() *cobra.Command {
	blockSize := uint32(4096)
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Verify the lvstore on a file or block device that is not in use",
		Long: `check reads the metadata of the lvstore in FILE, writes nothing, and says what
is wrong: clusters used twice, leaked or out of range, damaged metadata pages,
broken chains. What a load after a power cut repairs by itself is a note.
The exit code is 1 when anything graver was found.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return check(c.OutOrStdout(), args[0], blockSize)
		},
	}
	c.Flags().Uint32Var(&blockSize, "block-size", blockSize, "bytes of a block of the bdev that the lvstore was made on")
	return c
}

func check(w io.Writer, file string, blockSize uint32) error {
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
	image, err := blobstore.ReadImage(h, blobstore.LvstoreType)
	switch {
	case errors.Is(err, syscall.EILSEQ):
		return fmt.Errorf("%s: there is no lvstore, or its super block is damaged: %w", file, err)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, p := range image.Problems {
		fmt.Fprintln(w, p)
	}
	fmt.Fprintf(w, "%s: %d blobs, %d of %d clusters and %d of %d metadata pages in use, %d findings\n", file, len(image.Blobs),
		image.Clusters.Used(), image.Clusters.Len(), image.Pages.Used(), image.Pages.Len(), len(image.Problems))
	if image.Worst() > blobstore.Note {
		return fmt.Errorf("%s: the lvstore is damaged", file)
	}
	return nil
}
