//go:build e2e

package e2e

import (
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// secrets are what the two Linux hosts and the exporters of a secured cluster prove to
// know, and where its database is.
type secrets struct {
	hosts map[string]string
	ctrlr string
	db    string
}

func newSecrets(db string) *secrets {
	return &secrets{db: db, ctrlr: dhchap.NewSecret(dhchap.SHA512).Reveal(),
		hosts: map[string]string{"host0": dhchap.NewSecret(dhchap.SHA256).Reveal(), "host1": dhchap.NewSecret(dhchap.SHA384).Reveal()}}
}

const (
	dbURI     = "postgresql://vda_user:vda_password@192.168.0.10:5432/vda_db"
	userToken = "/root/user-token"
)

// asUser stands before what is typed on the server of vda_cli.
func (r *rack) asUser(host string) string {
	if r.secrets == nil || r.hosts[host] != r.hosts["cli"] {
		return ""
	}
	return "export VDA_TOKEN_FILE=" + userToken + "; "
}

// secured is a command as it is typed where the cluster is secured: daemons are given
// what they get their certificates by, hosts their secrets.
func (r *rack) secured(host, command string) string {
	if r.secrets == nil {
		return command
	}
	enrol := func(kind, port string) string {
		whom := kind + "/" + addressOf(host) + ":" + port
		token := r.run("portal", "vda_db --action token --for "+whom+" --portal 192.168.0.11:9520 --db-uri "+r.secrets.db)
		return "VDA_ENROL=" + strings.TrimSpace(token) + " " + command
	}
	switch {
	case strings.HasPrefix(command, "nohup vda_portal "):
		return strings.Replace(command, " --listener", " --ca-dir /root/ca --tls-dir /root/tls --listener", 1)
	case strings.HasPrefix(command, "nohup vda_monitor "):
		command = strings.Replace(command, " --listener", " --tls-dir /root/tls-monitor --listener", 1)
		return enrol("monitor", "9620")
	case strings.HasPrefix(command, "nohup vda_dn_agent "):
		return enrol("dn", "9720")
	case strings.HasPrefix(command, "nohup vda_cn_agent "):
		return enrol("cn", "9820")
	case strings.Contains(command, "nvme connect "):
		return command + " --dhchap-secret='" + r.secrets.hosts[host] + "' --dhchap-ctrl-secret='" + r.secrets.ctrlr + "'"
	}
	return command
}

// beforePortal makes the CA with which the portal starts.
func (r *rack) beforePortal(command string) {
	r.t.Helper()
	if r.secrets != nil && strings.HasPrefix(command, "nohup vda_portal ") {
		r.run("portal", "vda_db --action make-ca --ca-dir /root/ca --db-uri "+r.secrets.db)
	}
}

// secure secures the cluster once its portal is there, and gives vda_cli's server the
// token of an admin.
func (r *rack) secure(command string) {
	r.t.Helper()
	if r.secrets == nil || !strings.HasPrefix(command, "nohup vda_portal ") {
		return
	}
	r.waitFor("portal", "vda_db --action secure --db-uri "+r.secrets.db, 30*time.Second)
	r.run("cli", "umask 077; echo "+r.user("ann", "admin")+" > "+userToken)
}

// user makes a user with a role, and returns the token.
func (r *rack) user(name, role string) string {
	r.t.Helper()
	return strings.TrimSpace(r.run("portal", "vda_db --action user --for user/"+name+" --role "+role+" --db-uri "+r.secrets.db))
}

// demandKeys has an exporter's controllers and its host authenticate to each other.
func (r *rack) demandKeys(create string) {
	r.t.Helper()
	if r.secrets == nil {
		return
	}
	nqn := "nqn.2016-06.io.spdk:vda-exp-" + word(create, "--da-name") + "-" + word(create, "--exp-name")
	hostNQN := word(create+" ", "--initiator-nqn")
	host := strings.TrimPrefix(hostNQN, "nqn.2016-06.io.spdk:")
	for _, cn := range []string{"cn0", "cn1"} {
		for name, secret := range map[string]string{host: r.secrets.hosts[host], "ctrlr": r.secrets.ctrlr} {
			file := "/root/key-" + name
			r.run(cn, "umask 077; echo '"+secret+"' > "+file+"; vda_rpc -s /tmp/cn.sock keyring_get_keys | grep -q '\""+name+"\"' || "+
				`vda_rpc -s /tmp/cn.sock keyring_file_add_key '{"name":"`+name+`","path":"`+file+`"}'`)
		}
		r.run(cn, `vda_rpc -s /tmp/cn.sock nvmf_subsystem_set_keys '{"nqn":"`+nqn+`","host":"`+hostNQN+`","dhchap_key":"`+host+
			`","dhchap_ctrlr_key":"ctrlr"}'`)
	}
}

// refusedWithoutKey has host1 connect to an exporter that is its own with another's key,
// and with none. nvme-cli would take the key of the host's other connections, so the
// kernel itself is told to connect without one.
func (r *rack) refusedWithoutKey(nqn string) {
	r.t.Helper()
	const own = "nqn.2016-06.io.spdk:host1"
	other := "nvme connect -t tcp -n " + nqn + " -a 192.168.0.16 -s 4430 --hostnqn " + own +
		" --dhchap-secret='" + r.secrets.hosts["host0"] + "'"
	if res := r.try("host1", other); res.Code == 0 {
		r.t.Fatal("host1 got in by another host's key")
	}
	none := "transport=tcp,traddr=192.168.0.16,trsvcid=4430,nqn=" + nqn + ",hostnqn=" + own + ",hostid=$(cat /etc/nvme/hostid)"
	if res := r.try("host1", `bash -c 'echo "$0" > /dev/nvme-fabrics' "`+none+`"`); res.Code == 0 {
		r.t.Fatal("host1 got in without a key")
	}
	if out := r.run("host1", "dmesg | tail -n 4"); !strings.Contains(out, "no key") {
		r.t.Errorf("host1 without a key was refused for another reason:\n%s", out)
	}
}
