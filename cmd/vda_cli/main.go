// Vda_cli is the user's client of a VDA portal.
package main

import (
	"github.com/virtual-disk-array/vda/cli"
	"github.com/virtual-disk-array/vda/program"
)

func main() { program.Main(cli.Program()) }
