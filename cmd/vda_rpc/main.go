// Command vda_rpc calls a JSON-RPC method of vda_tgt or spdk_tgt, like SPDK's
// rpc.py.
package main

import (
	"os"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/spdk/rpccli"
)

func main() {
	ctx, stop := daemon.Context()
	defer stop()
	os.Exit(rpccli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
