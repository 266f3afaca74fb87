// Command vda_rpc calls a JSON-RPC method of vda_tgt or spdk_tgt, like SPDK's
// rpc.py.
package main

import (
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/spdk/rpccli"
)

func main() { program.Main(rpccli.Program()) }
