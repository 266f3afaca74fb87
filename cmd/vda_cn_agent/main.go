// Command vda_cn_agent makes one controller node's data plane match the desired
// state. See package agent/cn.
package main

import (
	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/program"
)

func main() { program.Main(cn.App.Program()) }
