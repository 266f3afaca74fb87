// Vda_portal serves VDA's gRPC API.
package main

import (
	"os"

	"github.com/virtual-disk-array/vda/portal"
)

func main() { os.Exit(portal.Main(os.Args[1:], os.Stderr)) }
