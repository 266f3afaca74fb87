package spdk

import (
	"context"
	"encoding/base64"
	"fmt"
)

// nvmeCommand are the parameters of bdev_nvme_send_cmd. Commands and answers are in Base64 with the
// alphabet for URLs.
type nvmeCommand struct {
	Name      string `json:"name"` // of the controller
	Type      string `json:"cmd_type"`
	Direction string `json:"data_direction"`
	Command   string `json:"cmdbuf"`
	DataLen   uint32 `json:"data_len"` // bytes
}

// BdevNvmeAdminRead has an NVMe controller carry out a command of the admin queue that has data for the
// host, n bytes of it, and returns those and the completion, whatever its status is. SPDK alone has
// that: IsMethodNotFound on vda_tgt.
func (a API) BdevNvmeAdminRead(ctx context.Context, name string, sqe [64]byte, n uint32) (cqe [16]byte, data []byte, err error) {
	const method = "bdev_nvme_send_cmd"
	reply, err := ask[struct {
		Cpl  string `json:"cpl"`
		Data string `json:"data"`
	}](ctx, a, method, nvmeCommand{Name: name, Type: "admin", Direction: "c2h",
		Command: base64.URLEncoding.EncodeToString(sqe[:]), DataLen: n})
	if err != nil {
		return cqe, nil, err
	}
	cpl, err := base64.URLEncoding.DecodeString(reply.Cpl)
	if err != nil || len(cpl) != len(cqe) {
		return cqe, nil, fmt.Errorf("%s: the completion is not %d bytes in Base64", method, len(cqe))
	}
	if data, err = base64.URLEncoding.DecodeString(reply.Data); err != nil || len(data) != int(n) {
		return cqe, nil, fmt.Errorf("%s: the data are not %d bytes in Base64", method, n)
	}
	return [16]byte(cpl), data, nil
}
