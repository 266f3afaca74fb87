package apiv1

import "github.com/virtual-disk-array/vda"

// NewListenerConf is a listener on the wire.
func NewListenerConf(l vda.Listener) *ListenerConf {
	return &ListenerConf{Trtype: l.TrType, Traddr: l.TrAddr, Adrfam: l.AdrFam, Trsvcid: l.TrSvcID}
}

// Listener is the listener that came by the wire, the zero one for nil.
func (x *ListenerConf) Listener() vda.Listener {
	return vda.Listener{TrType: x.GetTrtype(), TrAddr: x.GetTraddr(), AdrFam: x.GetAdrfam(), TrSvcID: x.GetTrsvcid()}
}
