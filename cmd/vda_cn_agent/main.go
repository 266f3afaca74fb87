// Command vda_cn_agent makes one controller node's data plane match the
// desired state. See package agent/cn.
package main

import (
	"os"

	"github.com/virtual-disk-array/vda/agent/cn"
)

func main() { os.Exit(cn.App.Main(os.Args[1:], os.Stderr)) }
