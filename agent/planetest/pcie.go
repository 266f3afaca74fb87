package planetest

import (
	"encoding/base64"
	"syscall"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// attachPCIe gives the data plane the NVMe device of a PCI address, the medium of which is Disk's of
// that address. SPDK alone has such.
func (p *Plane) attachPCIe(a *params) (any, error) {
	switch {
	case p.swaps:
		return nil, jsonrpc.Errno(syscall.EINVAL, "")
	case p.ctrlrs[a.Name] != nil:
		return nil, jsonrpc.Errno(syscall.EALREADY, "")
	}
	p.ctrlrs[a.Name] = &ctrlr{name: a.Name, addr: a.TrAddr}
	b := &bdev{name: a.Name + "n1", product: "NVMe disk", blocks: p.c.diskBytes() / 4096, medium: p.c.disk(a.TrAddr)}
	return []string{b.name}, p.add(b)
}

// sendCmd answers what agents ask NVMe devices: Identify Controller, and whether the write cache is on.
func (p *Plane) sendCmd(a *params) (any, error) {
	b := p.bdevs[a.Name+"n1"]
	if b == nil {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid argument"}
	}
	sqe, err := base64.URLEncoding.DecodeString(a.Cmdbuf)
	if err != nil || len(sqe) != nvme.CommandLen {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid argument"}
	}
	cmd, cqe, data := nvme.Command(sqe), nvme.Completion{}, make([]byte, a.DataLen)
	switch {
	case cmd.Opcode() == nvme.AdminIdentify && cmd.CDW(10) == uint32(nvme.CNSController) && len(data) == nvme.IdentifyLen:
		if !b.medium.NoCache {
			data[525] = nvme.VWCPresent
		}
	case cmd.Opcode() == nvme.AdminGetFeatures && cmd.FID() == nvme.FeatureWriteCache && !b.medium.NoCache:
		if b.medium.Volatile {
			cqe.DW0 = 1
		}
	default:
		cqe.Status = nvme.InvalidField | nvme.DNR
	}
	var answer [nvme.CompletionLen]byte
	nvme.PutCompletion(answer[:], cqe)
	return map[string]string{"cpl": base64.URLEncoding.EncodeToString(answer[:]), "data": base64.URLEncoding.EncodeToString(data)}, nil
}
