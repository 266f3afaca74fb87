// Command vda_dn_agent makes one disk node's data plane match the desired
// state. See package agent/dn.
package main

import (
	"os"

	"github.com/virtual-disk-array/vda/agent/dn"
)

func main() { os.Exit(dn.App.Main(os.Args[1:], os.Stderr)) }
