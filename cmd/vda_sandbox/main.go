// Command vda_sandbox runs a whole cluster on this machine and proves it with
// I/O; see package sandbox.
package main

import (
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/sandbox"
)

func main() { program.Main(sandbox.Program()) }
