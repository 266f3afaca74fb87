package apiv1

// Hosts are the NQNs of all hosts that an exporter lets in.
func (e *ExpSpec) Hosts() []string {
	if e.GetInitiatorNqn() == "" {
		return nil
	}
	return append([]string{e.InitiatorNqn}, e.MoreInitiatorNqns...)
}
