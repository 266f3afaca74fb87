package bdevnvme

import (
	"fmt"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

var anaNames = map[host.ANAState]string{
	host.ANAOptimized: "optimized", host.ANANonOptimized: "non_optimized", host.ANAInaccessible: "inaccessible",
	host.ANAPersistentLoss: "persistent_loss", host.ANAChange: "change",
}

type ctrlrData struct {
	CNTLID   uint16 `json:"cntlid"`
	Vendor   string `json:"vendor_id"`
	Model    string `json:"model_number"`
	Serial   string `json:"serial_number"`
	Firmware string `json:"firmware_revision"`
	SubNQN   string `json:"subnqn,omitempty"`
	OACS     oacs   `json:"oacs"`
	Multi    bool   `json:"multi_ctrlr"`
	ANA      bool   `json:"ana_reporting"`
}

// oacs says which optional admin commands a controller has; over fabrics those are of no use.
type oacs struct {
	Security int `json:"security"`
	Format   int `json:"format"`
	Firmware int `json:"firmware"`
	NSManage int `json:"ns_manage"`
}

type versionData struct {
	NVMe string `json:"nvme_version"`
}

type nsData struct {
	ID       uint32 `json:"id"`
	ANAState string `json:"ana_state,omitempty"`
	CanShare bool   `json:"can_share"`
}

type wayInfo struct {
	TrID   TransportID `json:"trid"`
	Ctrlr  ctrlrData   `json:"ctrlr_data"`
	VS     versionData `json:"vs"`
	NSData nsData      `json:"ns_data"`
}

// DriverSpecific is bdev_get_bdevs' driver_specific: the paths to the
// namespace.
func (d *disk) DriverSpecific() any {
	out := struct {
		NVMe     []wayInfo `json:"nvme"`
		Policy   string    `json:"mp_policy"`
		Selector string    `json:"selector,omitempty"`
		MinIO    uint32    `json:"rr_min_io,omitempty"`
	}{Policy: "active_passive"}
	if p := d.policy.Load(); p != nil {
		out.Policy, out.Selector, out.MinIO = "active_active", "round_robin", p.MinIO
		if p.QueueDepth {
			out.Selector = "queue_depth"
		}
	}
	for _, io := range d.ioPaths() {
		c := io.path.ctl.Data()
		i := wayInfo{TrID: io.path.trid(io.path.ctl.Addresses()[0]),
			Ctrlr: ctrlrData{CNTLID: io.path.ctl.CNTLID(), Vendor: fmt.Sprintf("0x%04x", c.VendorID), Model: c.Model, Serial: c.Serial,
				Firmware: c.Firmware, SubNQN: c.SubNQN, Multi: c.CMIC&nvme.CMICMultiController != 0, ANA: c.CMIC&nvme.CMICANA != 0},
			VS: versionData{fmt.Sprintf("%d.%d", c.Version>>16, c.Version>>8&0xff)}, NSData: nsData{ID: d.nsid, CanShare: true}}
		if i.Ctrlr.ANA {
			i.NSData.ANAState = anaNames[io.ns.ANA()]
		}
		out.NVMe = append(out.NVMe, i)
	}
	return out
}
