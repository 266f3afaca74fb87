// Command vda_rpc calls a JSON-RPC method of vda_tgt or spdk_tgt, like SPDK's
// rpc.py.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"vda/spdk/rpccli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(rpccli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
