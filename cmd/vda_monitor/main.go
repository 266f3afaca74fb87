// Command vda_monitor watches the nodes of a VDA cluster and makes them what
// the database says.
package main

import (
	"github.com/virtual-disk-array/vda/monitor"
	"github.com/virtual-disk-array/vda/program"
)

func main() { program.Main(monitor.Program()) }
