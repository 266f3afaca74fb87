// Command vda_dn_agent makes one disk node's data plane match the desired
// state. See package agent/dn.
package main

import (
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/program"
)

func main() { program.Main(dn.App.Program()) }
