package syncer

import (
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// ApplyCn records a cn's answer in one transaction.
func ApplyCn(tx store.Tx, req *apiv1.SyncCnRequest, reply *apiv1.SyncReply) (bool, error) {
	return applyCn(tx, req, newProgress(req.Version, reply), part{0, len(req.Cntlrs), true})
}
