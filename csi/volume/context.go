package volume

import (
	"strconv"
	"strings"

	"github.com/virtual-disk-array/vda"
)

// The keys of a volume's context, which the StorageClass decides, and of the context of
// its publication to a node.
const (
	mkfsKey      = "mkfsOptions"
	lossKey      = "nvmeCtrlLossTmo"
	delayKey     = "nvmeReconnectDelay"
	keepAliveKey = "nvmeKeepAliveTmo"
	queuesKey    = "nvmeNrIoQueues"
	authKey      = "dhchap"

	nqnKey       = "nqn"
	uuidKey      = "namespaceUuid"
	addressesKey = "addresses"
	readonlyKey  = "readonly"
)

// Context is what nodes are told of a volume of the class.
func (c *Class) Context() map[string]string {
	m := map[string]string{lossKey: strconv.Itoa(c.NVMe.CtrlLossTmo), delayKey: strconv.Itoa(c.NVMe.ReconnectDelay),
		keepAliveKey: strconv.Itoa(c.NVMe.KeepAliveTmo)}
	if c.NVMe.NrIOQueues > 0 {
		m[queuesKey] = strconv.Itoa(c.NVMe.NrIOQueues)
	}
	if c.NVMe.Auth != NoAuth {
		m[authKey] = string(c.NVMe.Auth)
	}
	if len(c.MkfsOptions) > 0 {
		m[mkfsKey] = strings.Join(c.MkfsOptions, " ")
	}
	return m
}

// ParseContext reads a Class's Context; what is missing has its default. Keys that it
// does not know are an orchestrator's own.
func ParseContext(context map[string]string) (mkfs []string, nvme NVMe, err error) {
	c := defaults()
	for _, name := range []string{mkfsKey, lossKey, delayKey, keepAliveKey, queuesKey, authKey} {
		if value, given := context[name]; given && !keys[name].set(&c, value) {
			return nil, nvme, vda.Errorf(vda.InvalidArgument, "volume_context: %s is %q; it must be %s", name, vda.Shorten(value, 80),
				keys[name].want)
		}
	}
	return c.MkfsOptions, c.NVMe, nil
}

// Publication is what a node is told of a volume that is published to it.
type Publication struct {
	NQN       string   // of the subsystem
	UUID      string   // of the namespace
	Addresses []string // host:port of the controllers
	Readonly  bool
}

// Context is the publication as an orchestrator passes it on.
func (p Publication) Context() map[string]string {
	return map[string]string{nqnKey: p.NQN, uuidKey: p.UUID, addressesKey: strings.Join(p.Addresses, ","),
		readonlyKey: strconv.FormatBool(p.Readonly)}
}

// ParsePublication reads a publication's Context.
func ParsePublication(context map[string]string) (Publication, error) {
	p := Publication{NQN: context[nqnKey], UUID: context[uuidKey], Readonly: context[readonlyKey] == "true"}
	for _, name := range []string{nqnKey, uuidKey, addressesKey} {
		if context[name] == "" {
			return p, vda.Errorf(vda.InvalidArgument, "publish_context has no %s: it must be what ControllerPublishVolume has answered", name)
		}
	}
	p.Addresses = strings.Split(context[addressesKey], ",")
	return p, nil
}
