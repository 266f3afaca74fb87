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
	CNTLID   uint16         `json:"cntlid"`
	Vendor   string         `json:"vendor_id"`
	Model    string         `json:"model_number"`
	Serial   string         `json:"serial_number"`
	Firmware string         `json:"firmware_revision"`
	SubNQN   string         `json:"subnqn,omitempty"`
	OACS     map[string]int `json:"oacs"`
	Multi    bool           `json:"multi_ctrlr"`
	ANA      bool           `json:"ana_reporting"`
}

type nsData struct {
	ID       uint32 `json:"id"`
	ANAState string `json:"ana_state,omitempty"`
	CanShare bool   `json:"can_share"`
}

type wayInfo struct {
	TrID   TransportID       `json:"trid"`
	Ctrlr  ctrlrData         `json:"ctrlr_data"`
	VS     map[string]string `json:"vs"`
	NSData nsData            `json:"ns_data"`
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
				Firmware: c.Firmware, SubNQN: c.SubNQN, OACS: map[string]int{"security": 0, "format": 0, "firmware": 0, "ns_manage": 0},
				Multi: c.CMIC&nvme.CMICMultiController != 0, ANA: c.CMIC&nvme.CMICANA != 0},
			VS: map[string]string{"nvme_version": fmt.Sprintf("%d.%d", c.Version>>16, c.Version>>8&0xff)}, NSData: nsData{ID: d.nsid,
				CanShare: true}}
		if i.Ctrlr.ANA {
			i.NSData.ANAState = anaNames[io.ns.ANA()]
		}
		out.NVMe = append(out.NVMe, i)
	}
	return out
}
