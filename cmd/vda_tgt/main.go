// Command vda_tgt is the embedded data plane: block devices, NVMe/TCP target
// and host, driven over JSON-RPC with SPDK's methods.
package main

import (
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/vdatgt/tgtcli"
)

func main() { program.Main(tgtcli.Program()) }
