package vdatgt

import (
	"github.com/virtual-disk-array/vda/module/bdevnvme"
	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/raid"
)

func (t *Target) openModules() error {
	t.raids = raid.New(t.reg)
	t.mirrors = mirror.New(t.reg, t.log)
	t.lvols = lvol.New(lvol.Config{Registry: t.reg, Log: t.log})
	t.nvmes = bdevnvme.New(t.reg, t.log)
	return t.nvmes.SetOptions(bdevnvme.Options{Spin: t.cfg.Spin})
}
