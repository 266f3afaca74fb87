package vda

// Exp is an exporter: an NVMe subsystem through which one host reaches a
// disk array.
type Exp struct {
	ID           string
	DAID         string
	Name         string
	NQN          string
	InitiatorNQN string
	SnapName     string // "": the live volume
	Serial       string // 20 characters at most, the same on every controller
	NSUUID       string // namespace UUID and NGUID, the same on every controller

	Version uint64
	Deleted bool
}

// ES is an exporter on one controller.
type ES struct {
	ID      string
	ExpID   string
	CntlrID string
	Health  Health
}
