//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/test/verdict"
)

const authNQN = "nqn.2016-06.io.spdk:auth"

// authPlane is vda_tgt on dn0, whose one subsystem demands of host0 that it
// authenticates.
type authPlane struct {
	*rack
	hostNQN string
}

func (p *authPlane) rpc(method, params string) string {
	p.t.Helper()
	return p.run("dn0", "vda_rpc -s /tmp/dn.sock "+method+" '"+params+"'")
}

// up starts the data plane and puts everything back, as an agent does: the
// listener last.
func (p *authPlane) up(key, ctrlrKey string) {
	p.t.Helper()
	p.run("dn0", "rm -f /tmp/dn.sock; (vda_tgt -r /tmp/dn.sock >> /tmp/dn.log 2>&1 & echo $! > /tmp/dn.pid)")
	p.waitFor("dn0", "test -S /tmp/dn.sock", 30*time.Second)
	for _, k := range []string{"host", "host2", "ctrlr"} {
		p.rpc("keyring_file_add_key", `{"name":"`+k+`","path":"/tmp/`+k+`"}`)
	}
	p.rpc("nvmf_create_transport", `{"trtype":"TCP"}`)
	p.rpc("bdev_aio_create", `{"name":"A","filename":"/tmp/disk","block_size":4096}`)
	p.rpc("nvmf_create_subsystem", `{"nqn":"`+authNQN+`","serial_number":"S","model_number":"M"}`)
	p.rpc("nvmf_subsystem_add_ns", `{"nqn":"`+authNQN+`","namespace":{"bdev_name":"A","uuid":"aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb"}}`)
	p.rpc("nvmf_subsystem_add_host", `{"nqn":"`+authNQN+`","host":"`+p.hostNQN+`","dhchap_key":"`+key+`","dhchap_ctrlr_key":"`+ctrlrKey+`"}`)
	p.listener("add")
}

func (p *authPlane) listener(what string) {
	p.t.Helper()
	p.rpc("nvmf_subsystem_"+what+"_listener", `{"nqn":"`+authNQN+
		`","listen_address":{"trtype":"TCP","adrfam":"IPv4","traddr":"192.168.0.14","trsvcid":"4420"}}`)
}

// connect has Linux connect with these secrets, and returns what nvme-cli said
// and whether the disk came.
func (p *authPlane) connect(secrets string) (string, bool) {
	p.t.Helper()
	out := p.run("host0", "nvme connect -t tcp -a 192.168.0.14 -s 4420 -n "+authNQN+" -i 1 --reconnect-delay=1 --ctrl-loss-tmo=-1 "+
		secrets+" 2>&1 || echo FAILED")
	return out, !strings.Contains(out, "FAILED")
}

// state is what the controller of Linux's is doing; empty when there is none.
func (p *authPlane) state() string {
	p.t.Helper()
	return strings.TrimSpace(p.run("host0", "cat /sys/class/nvme/nvme*/state 2>/dev/null || true"))
}

// groups has Linux connect by each Diffie-Hellman group and hash, with a target that
// allows no other.
func (p *authPlane) groups(secrets string) {
	p.t.Helper()
	all := func(list ...string) string { return `["` + strings.Join(list, `","`) + `"]` }
	hashes := []string{"sha256", "sha384", "sha512"}
	for i, group := range []string{"null", "ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"} {
		hash := hashes[i%len(hashes)]
		p.rpc("nvmf_set_config", `{"dhchap_digests":`+all(hash)+`,"dhchap_dhgroups":`+all(group)+`}`)
		begin := time.Now()
		out, ok := p.connect(secrets)
		if !ok {
			p.t.Errorf("%s and %s: %s\n%s", group, hash, out, p.run("host0", "dmesg | tail -12"))
			continue
		}
		fmt.Printf("%s and %s: connected after %v\n", group, hash, time.Since(begin).Round(time.Millisecond))
		p.run("host0", "nvme disconnect -n "+authNQN)
	}
	p.rpc("nvmf_set_config", `{"dhchap_digests":`+all(hashes...)+`,"dhchap_dhgroups":`+all("ffdhe2048", "null")+`}`)
}

// discovery has the discovery controller demand the host's key, too.
func (p *authPlane) discovery(secret string) {
	p.t.Helper()
	const nqn = "nqn.2014-08.org.nvmexpress.discovery"
	p.rpc("nvmf_subsystem_add_listener", `{"nqn":"`+nqn+
		`","listen_address":{"trtype":"TCP","adrfam":"IPv4","traddr":"192.168.0.14","trsvcid":"4420"}}`)
	p.rpc("nvmf_subsystem_add_host", `{"nqn":"`+nqn+`","host":"`+p.hostNQN+`","dhchap_key":"host"}`)
	discover := "nvme discover -t tcp -a 192.168.0.14 -s 4420"
	if res := p.try("host0", discover); res.Code == 0 || strings.Contains(string(res.Stdout), authNQN) {
		p.t.Errorf("discovery without a key: exit %d, %s%s", res.Code, res.Stdout, res.Stderr)
	}
	// nvme-cli gives the kernel no secret for a discovery controller: the kernel itself is asked.
	options := "transport=tcp,traddr=192.168.0.14,trsvcid=4420,nqn=" + nqn +
		",hostnqn=$(cat /etc/nvme/hostnqn),hostid=$(cat /etc/nvme/hostid),dhchap_secret=" + secret
	out := p.run("host0", `exec 3<>/dev/nvme-fabrics
echo "`+options+`" >&3
device=/dev/nvme$(head -1 <&3 | sed 's/.*instance=\([0-9]*\).*/\1/')
nvme get-log $device --log-id=0x70 --log-len=4096 --raw-binary | tr '\0' '\n'
echo 1 > /sys/class/nvme/${device#/dev/}/delete_controller`)
	if !strings.Contains(out, authNQN) {
		p.t.Errorf("discovery with the key shows %q", out)
	}
	p.rpc("nvmf_subsystem_remove_host", `{"nqn":"`+nqn+`","host":"`+p.hostNQN+`"}`)
}

// TestLinuxHostAuthenticates: Linux's host and vda_tgt prove themselves to each
// other. A wrong key and none get an error and no disk; a host comes back by
// itself after a restart of the target, while keys are changed, and by its new
// key when it has been given that.
func TestLinuxHostAuthenticates(plain *testing.T) {
	t := verdict.New(plain)
	r := newHosts(t, "dn0", "host0")
	defer r.logs()
	p := &authPlane{rack: r}
	r.run("dn0", "tar -xzf vda.tar.gz -C /usr/local/bin; truncate -s 16M /tmp/disk")
	p.hostNQN = strings.TrimSpace(r.run("host0", "cat /etc/nvme/hostnqn"))
	host := strings.TrimSpace(r.run("host0", "nvme gen-dhchap-key -m 1 -n "+p.hostNQN)) // as an administrator makes it
	host2, ctrlr := dhchap.NewSecret(dhchap.SHA384).Reveal(), dhchap.NewSecret(dhchap.SHA512).Reveal()
	for name, secret := range map[string]string{"host": host, "host2": host2, "ctrlr": ctrlr} {
		r.run("dn0", "umask 077; echo '"+secret+"' > /tmp/"+name)
	}
	p.up("host", "ctrlr")
	r.run("host0", "modprobe nvme-tcp")
	one, both := " --dhchap-secret='"+host+"'", " --dhchap-secret='"+host+"' --dhchap-ctrl-secret='"+ctrlr+"'"

	for name, secrets := range map[string]string{"no key": "", "another key": " --dhchap-secret='" + host2 + "'",
		"another key of the controller": one + " --dhchap-ctrl-secret='" + host2 + "'"} {
		if out, ok := p.connect(secrets); ok {
			t.Errorf("%s: connected: %s", name, out)
		} else {
			fmt.Printf("%s: nvme-cli says %q\n", name, strings.TrimSpace(out))
		}
		if s := p.state(); s != "" {
			t.Errorf("%s: a controller is left, and %s", name, s)
		}
	}
	for name, secrets := range map[string]string{"one-way": one, "two-way": both} {
		begin := time.Now()
		out, ok := p.connect(secrets)
		if !ok {
			t.Fatalf("%s: %s\n%s", name, out, r.run("host0", "dmesg | tail -30"))
		}
		fmt.Printf("%s: connected after %v\n", name, time.Since(begin).Round(time.Millisecond))
		r.waitFor("host0", "test -b \""+device(authNQN)+"\"", 30*time.Second)
		r.run("host0", "dd if=/dev/urandom of="+device(authNQN)+" bs=1M count=1 oflag=direct 2>&1")
		r.run("host0", "nvme disconnect -n "+authNQN)
	}
	p.groups(both)
	p.discovery(host)
	if out, ok := p.connect(both); !ok {
		t.Fatalf("after other groups: %s", out)
	}
	r.waitFor("host0", "test -b \""+device(authNQN)+"\"", 30*time.Second)
	live := func(what string) {
		t.Helper()
		r.waitFor("host0", "grep -q live /sys/class/nvme/nvme*/state && dd if="+device(authNQN)+" of=/dev/null bs=1M count=1 iflag=direct 2>&1",
			60*time.Second)
		fmt.Println("live again", what)
	}
	lose := func(while func()) {
		t.Helper()
		p.listener("remove")
		r.waitFor("host0", "! grep -q live /sys/class/nvme/nvme*/state", 30*time.Second)
		while()
		p.listener("add")
	}

	r.run("dn0", "kill -9 $(cat /tmp/dn.pid)")
	r.waitFor("host0", "! grep -q live /sys/class/nvme/nvme*/state", 60*time.Second)
	p.up("host", "ctrlr")
	live("after a restart of the target")

	change := func(keys string) {
		t.Helper()
		p.rpc("nvmf_subsystem_set_keys", `{"nqn":"`+authNQN+`","host":"`+p.hostNQN+`",`+keys+`}`)
	}
	lose(func() { change(`"dhchap_key":"host2","dhchap_ctrlr_key":"ctrlr","vda_keep_previous":true`) })
	live("by the old key, which is still valid")
	r.run("host0", "echo '"+host2+"' > $(dirname /sys/class/nvme/nvme*/state)/dhchap_secret")
	// Linux proves itself by it on the connection that is there, which is not to be cut meanwhile.
	time.Sleep(3 * time.Second)
	live("with another key on the connection that it has")
	lose(func() { change(`"dhchap_key":"host2","dhchap_ctrlr_key":"ctrlr"`) })
	live("by the new key alone")

	// A key that is valid no more: Linux says so, and from 6.10 on gives up.
	lose(func() { change(`"dhchap_key":"host","dhchap_ctrlr_key":"ctrlr"`) })
	r.waitFor("host0", "dmesg | grep -qi 'authentication failed\\|authentication .*error'", 60*time.Second)
	time.Sleep(3 * time.Second)
	fmt.Printf("with a key that is valid no more Linux %s has state %q: %s\n", strings.TrimSpace(r.run("host0", "uname -r")), p.state(),
		r.run("host0", "dmesg | grep -i 'nvme' | tail -8"))
	if s := p.state(); strings.Contains(s, "live") {
		t.Errorf("a host with a key that is valid no more is %s", s)
	}
}
