package vda

import "cmp"

// NodeKind is a kind of node: its name in tables, logs, metrics and messages.
type NodeKind string

// The kinds of nodes.
const (
	DiskNode       NodeKind = "dn"
	ControllerNode NodeKind = "cn"
)

// NodeKinds are all kinds, in the order in which their rows are locked.
var NodeKinds = [...]NodeKind{ControllerNode, DiskNode}

// Title names a node in messages: "dn 192.168.0.14:9720".
func (k NodeKind) Title(name string) string { return string(k) + " " + name }

// Node is what nodes of both kinds have: a server with a data plane and an
// agent.
type Node struct {
	ID       string // 32 hex digits, like every ID
	Name     string // as CheckNodeName has it
	Addr     string // host:port of its agent; "" when Name is that
	Listener Listener
	Backend  Listener // of a cn: where other controllers connect to it, and no hosts; zero: at Listener
	Location string   // failure domain; "" is a location of its own for each node
	Online   bool     // the administrator's word: may new parts of arrays be placed here

	Version uint64       // of the desired state
	Applied uint64       // last version the agent has carried out in full
	Marks   VersionMarks // of the last versions

	DataPlaneVersion string
	AgentVersion     string // that its agent said last; "" when no monitor has heard it
	Health           Health
}

// At is where an agent or a monitor is, and whose it is: in a secured cluster what
// answers there has a certificate of its name or of its address.
type At struct {
	Kind string // of package pki: "dn", "cn" or "monitor"
	Name string // the node's; a monitor's is its address
	Addr string // host:port
}

// MonitorAt is where the monitor is that serves at host:port.
func MonitorAt(addr string) At { return At{Kind: "monitor", Name: addr, Addr: addr} }

// Agent is where the node's agent is: host:port.
func (n *Node) Agent() string { return cmp.Or(n.Addr, n.Name) }

// At is where the agent of a node of kind k is, and whose agent it is.
func (n *Node) At(k NodeKind) At { return At{Kind: string(k), Name: n.Name, Addr: n.Agent()} }

// SetAgent has the node's agent be at host:port.
func (n *Node) SetAgent(addr string) {
	n.Addr = addr
	if addr == n.Name {
		n.Addr = ""
	}
}

// NewNode makes a node of what a user has said of it; the fields of its errors are
// those of CreateDnRequest and CreateCnRequest. addr is where its agent is; "": the
// name says that. The node has no ID and Version yet.
func NewNode(k NodeKind, name, addr, listenerConf, location string, online bool) (*Node, error) {
	if err := checkNewNodeName(k, name, addr); err != nil {
		return nil, err
	}
	l, err := ParseListener(string(k)+"_listener_conf", listenerConf)
	if err != nil {
		return nil, err
	}
	n := &Node{Name: name, Listener: l, Location: location, Online: online}
	if addr != "" {
		n.SetAgent(addr)
	}
	return n, CheckLocation("location", location)
}

// SetBackend has other controllers connect to a cn at conf; "": at its listener again.
func (n *Node) SetBackend(field, conf string) error {
	if conf == "" {
		n.Backend = Listener{}
		return nil
	}
	l, err := ParseListener(field, conf)
	if err != nil {
		return err
	}
	if l.Same(n.Listener) {
		return invalid("%s: %s port %s is where hosts connect to the node; give another address, or none to have other controllers "+
			"connect there, too", field, l.TrAddr, l.TrSvcID)
	}
	n.Backend = l
	return nil
}

// Inner is where other controllers connect to a cn.
func (n *Node) Inner() Listener {
	if n.Backend != (Listener{}) {
		return n.Backend
	}
	return n.Listener
}

// DN is a disk node.
type DN struct {
	Node
	Drain bool // all vds are to leave it
}

// CN is a controller node.
type CN struct {
	Node
	CntlrCount   uint32 // controllers placed here
	PrimaryCount uint32 // of them primary
	Mirrors      bool   // its data plane can mirror, as its agent said last
	Auth         bool   // it can have hosts authenticate, likewise
	Reserves     bool   // hosts' reservations hold by it and others of an array, likewise
	Drain        CNDrain
}

// OnSPDK reports that the cn's data plane is SPDK, as far as its monitor has heard.
func (c *CN) OnSPDK() bool { return !c.Mirrors && c.DataPlaneVersion != "" }

// Carries reports that a controller of an array may be on the cn, as far as its monitor has
// heard.
func (c *CN) Carries(da *DA) bool {
	return (c.Mirrors || !da.NeedsVDATgt()) && (c.Reserves || !da.Reservations)
}

// NotReserving says why hosts' reservations do not hold by the cn, in words; "" when they do.
func (c *CN) NotReserving() string {
	switch {
	case c.Reserves:
		return ""
	case c.DataPlaneVersion == "":
		return "vda_monitor has not heard yet whether reservations hold by it"
	case c.OnSPDK():
		return "its data plane is " + c.DataPlaneVersion + ", whose reservations are one controller's alone; run vda_tgt there"
	}
	return "its vda_tgt or vda_cn_agent is of an earlier release, which knows no reservations of arrays; update both"
}

// CNDrain is what is to leave a cn. The values are those in SQL.
type CNDrain int

// What is to leave a cn.
const (
	NoDrain        CNDrain = iota
	DrainPrimaries         // primaries, so that its programs can be restarted
	DrainCntlrs            // all controllers, so that it can be removed
)
