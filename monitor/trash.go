package monitor

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// purgePeriod is how often the trash is looked through.
const purgePeriod = 10 * time.Second

// watchTrash deletes arrays whose users have deleted them and wanted them kept, when
// that time has passed. Every monitor does; the first takes an array away from the others.
func (m *Monitor) watchTrash(ctx context.Context) {
	m.every(ctx, purgePeriod, "deleted arrays that were kept long enough stay for now", m.purge)
}

func (m *Monitor) purge(ctx context.Context) error {
	var trash []vda.DA
	err := m.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		trash, _, err = tx.ListDA(store.DAFilter{Trash: true}, store.Page{})
		return err
	})
	for i := range trash {
		if err != nil {
			return err
		}
		if due(&trash[i]) {
			err = m.purgeDA(ctx, trash[i].ID)
		}
	}
	return err
}

func due(da *vda.DA) bool { return !da.Deleted && !da.Purge.IsZero() && !time.Now().Before(da.Purge) }

// purgeDA deletes one, unless it was brought back meanwhile. Its nodes hear of it as
// of any change.
func (m *Monitor) purgeDA(ctx context.Context, id string) error {
	name := ""
	err := m.cfg.Store.Update(ctx, func(tx store.Tx) error {
		name = ""
		da, err := tx.DA(id)
		if vda.KindOf(err) == vda.NotFound && err != nil {
			return nil
		}
		if err != nil || !due(da) {
			return err
		}
		name = da.Name
		_, err = array.Delete(tx, da)
		return err
	})
	if err == nil && name != "" {
		m.log.Info("a deleted array was kept long enough and goes", "req_id", rpc.RequestID(ctx), "da", name, "da_id", id)
	}
	return err
}
