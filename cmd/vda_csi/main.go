// Vda_csi serves VDA's volumes to Kubernetes and other orchestrators.
package main

import (
	"github.com/virtual-disk-array/vda/csi"
	"github.com/virtual-disk-array/vda/program"
)

func main() { program.Main(csi.Program()) }
