package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/program"
)

// form is a way to print a reply for people.
type form struct {
	name  string
	print func(w io.Writer, reply proto.Message)
}

// connectForms say how a host connects.
var connectForms = []form{{"shell", connectShell}, {"nvme-json", connectJSON}, {"fstab", connectFstab}}

// addForms gives a command --as.
func (s *session) addForms(cmd *cobra.Command, forms []form) {
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	cmd.Flags().StringVar(&s.as, "as", names[0], "`FORM` of the answer: "+strings.Join(names, ", "))
	program.Choices(cmd, "as", names...)
}

// form is how the reply is to be printed.
func (s *session) form(c *command) (func(io.Writer, proto.Message), error) {
	var names []string
	for _, f := range c.forms {
		if f.name == s.as {
			return f.print, nil
		}
		names = append(names, f.name)
	}
	return nil, fmt.Errorf("--as %q: it must be one of %s", s.as, strings.Join(names, ", "))
}

// What hosts are advised: they go on to try for ever, and often.
const (
	reconnectDelay = 2  // seconds
	ctrlLossTmo    = -1 // for ever
)

// address is that of a path, as listener confs have it.
type address struct{ Trtype, Traddr, Trsvcid string }

// paths are the addresses of an exporter.
func paths(m *apiv1.ExpMsg) []address {
	var all []address
	for _, es := range m.GetEsMsgList() {
		var a address
		if json.Unmarshal([]byte(es.CnListenerConf), &a) == nil { // the portal has checked it
			all = append(all, a)
		}
	}
	return all
}

func connectShell(w io.Writer, reply proto.Message) {
	m := reply.(*apiv1.GetExpReply).GetExpMsg()
	for _, nqn := range m.GetMoreInitiatorNqnList() {
		fmt.Fprintf(w, "# also let in: --hostnqn %s\n", nqn)
	}
	for _, nqn := range m.GetAuthInitiatorNqnList() {
		fmt.Fprintf(w, "# has to authenticate, with --dhchap-secret: --hostnqn %s\n", nqn)
	}
	for _, a := range paths(m) {
		fmt.Fprintf(w, "nvme connect -t %s -a %s -s %s -n %s --hostnqn %s --ctrl-loss-tmo=%d --reconnect-delay=%d\n",
			a.Trtype, a.Traddr, a.Trsvcid, m.ExpNqn, m.InitiatorNqn, ctrlLossTmo, reconnectDelay)
	}
}

// connectJSON prints what nvme connect-all reads: libnvme's configuration.
func connectJSON(w io.Writer, reply proto.Message) {
	type port struct {
		Transport      string `json:"transport"`
		Traddr         string `json:"traddr"`
		Trsvcid        string `json:"trsvcid"`
		CtrlLossTmo    int    `json:"ctrl_loss_tmo"`
		ReconnectDelay int    `json:"reconnect_delay"`
	}
	type subsystem struct {
		NQN   string `json:"nqn"`
		Ports []port `json:"ports"`
	}
	type host struct {
		HostNQN    string      `json:"hostnqn"`
		Subsystems []subsystem `json:"subsystems"`
	}
	m := reply.(*apiv1.GetExpReply).GetExpMsg()
	s := subsystem{NQN: m.ExpNqn}
	for _, a := range paths(m) {
		s.Ports = append(s.Ports, port{a.Trtype, a.Traddr, a.Trsvcid, ctrlLossTmo, reconnectDelay})
	}
	var hosts []host
	for _, nqn := range append([]string{m.InitiatorNqn}, m.MoreInitiatorNqnList...) {
		hosts = append(hosts, host{nqn, []subsystem{s}})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", indent)
	_ = enc.Encode(hosts) // as far as w takes it
}

// connectFstab prints a line whose device is the namespace's link by UUID, which udev makes
// whatever name the kernel gives.
func connectFstab(w io.Writer, reply proto.Message) {
	m := reply.(*apiv1.GetExpReply).GetExpMsg()
	options := "_netdev,nofail"
	where := m.DaName
	if m.SnapName != "" {
		where += "-" + m.SnapName
	}
	if m.SnapName != "" && !m.SnapWritable {
		options = "ro," + options
	}
	fmt.Fprintf(w, "/dev/disk/by-id/nvme-uuid.%s /mnt/%s auto %s 0 2\n", m.NsUuid, where, options)
}
