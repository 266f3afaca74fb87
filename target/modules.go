package target

import (
	"vda/bdev/bdevnvme"
	"vda/bdev/lvol"
	"vda/bdev/raid"
)

func (t *Target) openModules() error {
	t.raids = raid.New(t.reg)
	t.lvols = lvol.New(lvol.Config{Registry: t.reg, Log: t.log})
	t.nvmes = bdevnvme.New(t.reg, t.log)
	return t.nvmes.SetOptions(bdevnvme.Options{Spin: t.cfg.Spin})
}

// closeModules unloads every lvstore clean, also those on lvols of others,
// and disconnects from remote controllers.
func (t *Target) closeModules() {
	if err := t.lvols.Close(); err != nil {
		t.log.Error("lvstores were not all unloaded clean", "err", err)
	}
	t.nvmes.Close()
}
