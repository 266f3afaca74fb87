// Command vda_db creates, migrates, checks and drops the schema of VDA's
// database.
package main

import (
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/store/dbcli"
)

func main() { program.Main(dbcli.Program()) }
