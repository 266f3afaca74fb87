package portal

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// UndeleteDa brings a disk array back from the trash. Nothing of it was touched there.
func (s *Server) UndeleteDa(ctx context.Context, req *apiv1.UndeleteDaRequest) (*apiv1.UndeleteDaReply, error) {
	if err := vda.CheckName("da_name", req.DaName); err != nil {
		return nil, err
	}
	name := req.DaName
	if req.NewDaName != nil {
		name = *req.NewDaName
		if err := vda.CheckName("new_da_name", name); err != nil {
			return nil, err
		}
	}
	var da *vda.DA
	err := s.update(ctx, func(tx store.Tx) error {
		found, err := findTrash(tx.Unlocked(), req.DaName, req.DaId)
		if err != nil {
			return err
		}
		if da, err = tx.DA(found.ID); err != nil && !isKind(err, vda.NotFound) {
			return err
		}
		if err != nil || da.Deleted || da.Purge.IsZero() { // not when it was found
			return noTrash(req.DaName)
		}
		_, err = tx.Unlocked().DAByName(name)
		if err := taken(err, func() error {
			return refuse(codeNameTaken, vda.AlreadyExists, "da %s already exists; give new_da_name to bring the deleted one back beside it", name)
		}); err != nil {
			return err
		}
		da.Name, da.Purge = name, time.Time{}
		return tx.UpdateDA(da)
	})
	if err != nil {
		return nil, err
	}
	now, err := s.daMsg(ctx, byID(da.ID))
	msg, remarks := shown(now, err, daMsg(da))
	return &apiv1.UndeleteDaReply{ReplyInfo: done("the da is back", nil, remarks...), DaMsg: msg}, nil
}

func noTrash(name string) error {
	return vda.Errorf(vda.NotFound, "no deleted da %q is kept; da list --trash shows those that are", name)
}

// findTrash finds what is in the trash by its name, and its id unless that is "".
func findTrash(tx store.Reader, name, id string) (*vda.DA, error) {
	all, _, err := tx.ListDA(store.DAFilter{Trash: true}, store.Page{})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(d vda.DA) bool { return d.Name != name || id != "" && d.ID != id })
	switch {
	case len(all) == 1:
		return &all[0], nil
	case len(all) > 1:
		var which []string
		for i := range all {
			which = append(which, all[i].ID+" until "+rfc3339(all[i].Purge.Truncate(time.Second)))
		}
		return nil, vda.Errorf(vda.FailedPrecondition, "%d deleted das %s are kept; give the da_id of one: %s", len(all), name,
			vda.Shorten(strings.Join(which, ", "), 600))
	case id != "":
		return nil, vda.Errorf(vda.NotFound, "no deleted da %q with da_id %q is kept; da list --trash shows those that are", name,
			vda.Shorten(id, 80))
	}
	return nil, noTrash(name)
}

// showRawSize shows what arrays in the trash take on disks.
func showRawSize(tx store.Reader, das []*apiv1.DaMsg) error {
	vds, err := tx.TrashedVDs()
	size := map[string]uint64{}
	for i := range vds {
		size[vds[i].DAID] += vds[i].Size
	}
	for _, da := range das {
		da.RawSize = size[da.DaId]
	}
	return err
}

// holders names arrays that stand in the way of something, by id: users do not find
// those in the trash without being told where they are.
func holders(tx store.Reader, ids []string) (map[string]string, error) {
	known, err := tx.DANames(ids)
	if err != nil || len(ids) == 0 {
		return known, err
	}
	trash, _, err := tx.Unlocked().ListDA(store.DAFilter{Trash: true}, store.Page{})
	for i := range trash {
		if d := &trash[i]; known[d.ID] != "" {
			known[d.ID] += fmt.Sprintf(" (deleted and kept until %s; da undelete it, and delete it without keep)",
				rfc3339(d.Purge.Truncate(time.Second)))
		}
	}
	return known, err
}
