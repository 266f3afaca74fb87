// Command vda_db creates, migrates, checks and drops the schema of VDA's
// database.
package main

import (
	"os"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/store/dbcli"
)

func main() {
	ctx, stop := daemon.Context()
	defer stop()
	os.Exit(dbcli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
