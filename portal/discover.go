package portal

import (
	"context"
	"encoding/json"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// Disks asks the agent of a disk node for the disks of its machine.
type Disks interface {
	ListDisks(ctx context.Context, dnID string) ([]*apiv1.Disk, error)
}

// DiscoverPd looks at the disks of a dn: which are free, and why the others are not.
func (s *Server) DiscoverPd(ctx context.Context, req *apiv1.DiscoverPdRequest) (*apiv1.DiscoverPdReply, error) {
	var dn *vda.Node
	names, media := map[string]string{}, map[string]string{} // of pds, by id and by medium
	err := s.view(ctx, func(tx store.Reader) (err error) {
		if dn, err = findNode(tx, vda.DiskNode, req.DnName); err != nil {
			return err
		}
		pds, _, err := tx.DNObjects(dn.ID, 0)
		for i := range pds {
			name := tombstoned(pds[i].Name, pds[i].Deleted)
			names[pds[i].ID] = name
			if m, err := parsePDConf("pd_conf", pds[i].Conf); err == nil && m != "" {
				media[m] = name
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	disks, err := s.cfg.Disks.ListDisks(ctx, dn.ID)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.DiscoverPdReply{}
	for _, d := range disks {
		m := &apiv1.DiskMsg{Path: d.Path, Device: d.Device, Kind: d.Kind, Size: d.Size, Model: d.Model, Serial: d.Serial,
			State: d.State, Why: d.Why, PdName: names[d.PdId]}
		for _, path := range []string{d.Path, d.Device} {
			conf := vda.PDConf{Type: "aio", Filename: path}
			if name := media[conf.Medium()]; name != "" && m.State != "pd" { // which the node has not been told yet
				m.State, m.PdName, m.Why = "pd", name, "it is the disk of pd "+name
			}
		}
		if m.State == "free" {
			conf, err := json.Marshal(struct {
				Type     string `json:"type"`
				Filename string `json:"filename"`
			}{"aio", d.Path})
			if err != nil {
				return nil, err
			}
			m.PdConf = string(conf)
		}
		reply.DiskMsgList = append(reply.DiskMsgList, m)
	}
	return reply, nil
}
