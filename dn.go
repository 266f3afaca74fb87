package vda

// DN is a disk node.
type DN struct {
	ID       string // 32 hex digits, like every ID
	Name     string // host:port of its agent
	Listener Listener
	Location string // failure domain; "" is a location of its own for each node
	Online   bool   // the administrator's word: may new vds be placed here

	Version uint64 // of the desired state
	Applied uint64 // last version the agent has carried out in full

	DataPlaneVersion string
	Health           Health
}
