package volume

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// Auth is who proves to the other that it knows a key (DH-HMAC-CHAP) when a node connects to
// a volume.
type Auth string

const (
	NoAuth     Auth = "none"   // nobody: the NQN of the node's host is enough
	HostAuth   Auth = "host"   // the node's host
	MutualAuth Auth = "mutual" // the host and the controllers
)

var auths = []Auth{NoAuth, HostAuth, MutualAuth}

// The keys of secrets by which keys are given, as nvme gen-dhchap-key makes them.
const (
	hostSecret  = "dhchapKey"
	ctrlrSecret = "dhchapCtrlrKey"
)

// Keys takes the keys that a volume needs from the secrets of a call; usual names the sidecars'
// key by which a StorageClass names the secret, without "-name". No error repeats any of a key.
func (a Auth) Keys(secrets map[string]string, usual string) (vda.KeyPair, error) {
	var pair vda.KeyPair
	want := map[string]*vda.Secret{}
	switch a {
	case HostAuth:
		want[hostSecret] = &pair.Host
	case MutualAuth:
		want[hostSecret], want[ctrlrSecret] = &pair.Host, &pair.Ctrlr
	}
	for _, name := range []string{hostSecret, ctrlrSecret} {
		to := want[name]
		if to == nil {
			continue
		}
		if secrets[name] == "" {
			return pair, vda.Errorf(vda.InvalidArgument, "secrets: %s is missing, which StorageClass parameter dhchap %q asks for; it must be in "+
				"the secret that the StorageClass names by csi.storage.k8s.io/%s-name and -namespace", name, string(a), usual)
		}
		s, err := dhchap.ParseSecret(secrets[name])
		if err != nil {
			return pair, vda.Errorf(vda.InvalidArgument, "secrets: %s is %v; nvme gen-dhchap-key makes one", name, err)
		}
		*to = vda.Secret(s.Reveal())
	}
	if pair.Host != "" && pair.Host == pair.Ctrlr {
		return pair, vda.Errorf(vda.InvalidArgument, "secrets: %s is the same as %s; each side needs one of its own", ctrlrSecret, hostSecret)
	}
	return pair, nil
}
