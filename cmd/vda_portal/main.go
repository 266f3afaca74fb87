// Vda_portal serves VDA's gRPC API.
package main

import (
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/program"
)

func main() { program.Main(portal.Program()) }
