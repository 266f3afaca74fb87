package host

import "github.com/virtual-disk-array/vda/nvmf/tcp"

// sendList is what waits to be sent on a queue: PDUs, and whose buffers they
// point at.
type sendList struct {
	tcp.Queue
	owners []uint16 // commands whose buffers are pointed at, once for each time
}

func (l *sendList) reset() {
	l.Queue.Reset()
	l.owners = l.owners[:0]
}
