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

// Validate checks what a user has said of a new exporter of an array; the fields
// of its error are those of CreateExpRequest.
func (e *Exp) Validate(daName string) error {
	if err := CheckName("exp_name", e.Name); err != nil {
		return err
	}
	if err := CheckName("da_name", daName); err != nil {
		return err
	}
	if err := CheckInitiator("initiator_nqn", e.InitiatorNQN); err != nil {
		return err
	}
	if e.SnapName != "" {
		if err := CheckName("snap_name", e.SnapName); err != nil {
			return err
		}
	}
	return CheckNQN("the exporter's NQN", e.NQN)
}

// ES is an exporter on one controller.
type ES struct {
	ID      string
	ExpID   string
	CntlrID string
	Health  Health
}
