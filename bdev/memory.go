package bdev

// OnSettle names what the holder of h does when blocks move away from the
// memory that Map gave for them: f returns when no memory from an earlier Map
// is in use any more. Anyone who calls Map names one first. f is called without
// locks, on the goroutine of who moves the blocks.
func (h *Handle) OnSettle(f func()) { h.onSettle.Store(&f) }

// Settle returns when nobody uses memory any more that Map of the device
// called name gave before the call. A device calls it after its blocks have
// moved (a volume has shrunk or has left its blocks to a snapshot) and before
// that memory serves anything else: a reply that is still on its way to a slow
// host would show another's data. Reads pay nothing for it.
func (reg *Registry) Settle(name string) {
	for _, h := range reg.holders(name) {
		if f := h.onSettle.Load(); f != nil {
			(*f)()
		}
	}
}
