//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/e2e/tutorial"
	"github.com/virtual-disk-array/vda/test/verdict"
)

const (
	da0NQN = "nqn.2016-06.io.spdk:vda-exp-da0-exp0"
	da1NQN = "nqn.2016-06.io.spdk:vda-exp-da1-exp1"
	cli    = "vda_cli --addr-port 192.168.0.11:9520 "
)

// TestTutorial types every command of the tutorial on the host it belongs
// to, compares what is printed with the document, and then goes on as a user
// would.
func TestTutorial(plain *testing.T) { typeTutorial(verdict.New(plain), nil) }

// TestTutorialSecured types the same into a cluster that is secured before it has a
// node, and whose Linux hosts and exporters authenticate to each other.
func TestTutorialSecured(plain *testing.T) { typeTutorial(verdict.New(plain), newSecrets(dbURI)) }

func typeTutorial(t *verdict.T, keys *secrets) {
	doc, err := os.Open("../../docs/multiple_servers_deployment.rst")
	if err != nil {
		t.Fatal(err)
	}
	defer doc.Close()
	steps, err := tutorial.Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	r := newRack(t)
	r.secrets = keys
	defer r.logs()
	for _, s := range steps {
		r.step(s)
	}
	r.moveFileSystemBetweenHosts()
	r.verifyWholeArray()
	r.deleteEverything()
}

// step types one command and compares.
func (r *rack) step(s tutorial.Step) {
	r.t.Helper()
	r.beforePortal(s.Command)
	command := r.secured(s.Host, r.onPlane(s.Host, s.Command))
	if s.Stdin != "" {
		command += " <<'END'\n" + s.Stdin + "END"
	}
	fmt.Printf("root@%s# %s\n", s.Host, command)
	res := r.try(s.Host, command)
	out := string(res.Stdout) + string(res.Stderr)
	if strings.TrimSpace(out) != "" {
		fmt.Print(out)
	}
	// parted exits with 1 on a disk without a label, as the document shows.
	fails := strings.Contains(s.Output, "Error: ")
	if res.Code != 0 && !fails {
		r.t.Fatalf("line %d: %s: %s: exit %d", s.Line, s.Host, s.Command, res.Code)
	}
	if !fails {
		out = string(res.Stdout)
	}
	if err := s.Compare(out); err != nil {
		r.t.Fatalf("line %d: %s: %s: %v", s.Line, s.Host, s.Command, err)
	}
	r.afterTyping(s)
}

// afterTyping gives the machines the time that a person's typing gives them,
// by waiting for what the next command relies on.
func (r *rack) afterTyping(s tutorial.Step) {
	r.t.Helper()
	switch {
	case strings.Contains(s.Command, "apt install -y postgresql"):
		// The package starts its service where there is a service manager.
		r.run(s.Host, "service postgresql start")
	case strings.Contains(s.Command, "--rpc-socket "):
		r.waitFor(s.Host, "vda_rpc -s "+word(s.Command, "--rpc-socket")+" spdk_get_version", 30*time.Second)
	case strings.HasPrefix(s.Command, "nohup vda_"):
		address := word(s.Command, "--listener") + "/" + word(s.Command, "--port")
		r.waitFor(s.Host, "timeout 1 bash -c '</dev/tcp/"+address+"'", 30*time.Second)
		r.secure(s.Command)
	case strings.Contains(s.Command, "exp create "):
		r.demandKeys(s.Command)
	case strings.Contains(s.Command, "nvme connect"):
		// The command returns before the namespace is scanned.
		r.waitFor(s.Host, "test -b /dev/nvme0n1", 30*time.Second)
	}
}

// word returns the word after flag.
func word(command, flag string) string {
	fields := strings.Fields(command)
	for i, f := range fields[:len(fields)-1] {
		if f == flag {
			return fields[i+1]
		}
	}
	return ""
}

// device is a shell expression for the multipath device of a subsystem.
func device(nqn string) string {
	return "$(for s in /sys/class/nvme-subsystem/nvme-subsys*; do if [ \"$(cat $s/subsysnqn)\" = " + nqn +
		" ]; then ls $s | grep -E '^nvme[0-9]+n[0-9]+$' | sed 's|^|/dev/|'; fi; done)"
}

func (r *rack) connect(host, nqn string) {
	r.t.Helper()
	for _, address := range []string{"192.168.0.16", "192.168.0.17"} {
		r.run(host, r.secured(host, "nvme connect -t tcp -n "+nqn+" -a "+address+" -s 4430 --hostnqn nqn.2016-06.io.spdk:"+host))
	}
	r.waitFor(host, "test -b \""+device(nqn)+"\"", 30*time.Second)
}

// moveFileSystemBetweenHosts makes a file system on da0 from host0 and reads
// it on host1 through a new exporter.
func (r *rack) moveFileSystemBetweenHosts() {
	r.t.Helper()
	sum := r.run("host0", "mkfs.ext4 -q "+device(da0NQN)+" && mount "+device(da0NQN)+" /mnt &&"+
		" dd if=/dev/urandom of=/mnt/file bs=64k count=200 status=none && sync && sha256sum < /mnt/file &&"+
		" umount /mnt && nvme disconnect -n "+da0NQN+" >/dev/null")
	r.run("cli", cli+"exp delete --da-name da0 --exp-name exp0")
	create := "exp create --da-name da0 --exp-name moved --initiator-nqn nqn.2016-06.io.spdk:host1"
	r.run("cli", cli+create)
	r.demandKeys(create)
	moved := "nqn.2016-06.io.spdk:vda-exp-da0-moved"
	if res := r.try("host0", "nvme connect -t tcp -n "+moved+" -a 192.168.0.16 -s 4430 --hostnqn nqn.2016-06.io.spdk:host0"); res.Code == 0 {
		r.t.Fatal("host0 was admitted to an exporter that is host1's")
	}
	if r.secrets != nil { // the right name is not enough
		r.refusedWithoutKey(moved)
	}
	r.connect("host1", moved)
	got := r.run("host1", "mount "+device(moved)+" /mnt && sha256sum < /mnt/file && umount /mnt && fsck.ext4 -f -n "+device(moved)+
		" >&2 && nvme disconnect -n "+moved+" >/dev/null")
	if got != sum {
		r.t.Fatalf("the file's checksum on host1 is %q, on host0 it was %q", got, sum)
	}
	r.run("cli", cli+"exp delete --da-name da0 --exp-name moved")
	fmt.Printf("da0: file system made on host0, read and checked on host1: sha256 %s", got)
}

// verifyWholeArray writes every block of da1 on host1 and reads it back.
func (r *rack) verifyWholeArray() {
	r.t.Helper()
	out := r.run("host1", "fio --name=verify --filename="+device(da1NQN)+" --rw=randwrite --bs=64k --size=100% --iodepth=8"+
		" --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1")
	fmt.Println("da1: every block written and verified by fio on host1:")
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "err=") || strings.Contains(line, "READ:") || strings.Contains(line, "WRITE:") {
			fmt.Println("  " + strings.TrimSpace(line))
		}
	}
	r.run("host1", "nvme disconnect -n "+da1NQN+" >/dev/null")
}

// deleteEverything leaves no object in SQL nor in a data plane.
func (r *rack) deleteEverything() {
	r.t.Helper()
	for _, c := range []string{
		"exp delete --da-name da1 --exp-name exp1",
		"da delete --da-name da0",
		"da delete --da-name da1",
		"pd delete --dn-name 192.168.0.14:9720 --pd-name pd0",
		"pd delete --dn-name 192.168.0.15:9720 --pd-name pd0",
		"dn delete --dn-name 192.168.0.14:9720",
		"dn delete --dn-name 192.168.0.15:9720",
		"cn delete --cn-name 192.168.0.16:9820",
		"cn delete --cn-name 192.168.0.17:9820",
	} {
		r.run("cli", cli+c)
	}
	rows := r.run("postgresql", `sudo -u postgres psql -At vda_db <<'END'
select format('select count(*), %L from %I.%I', tablename, schemaname, tablename) from pg_tables
 where schemaname not in ('pg_catalog', 'information_schema')
   and tablename not in ('vda_cluster', 'vda_schema_version', 'vda_monitor', 'vda_event', 'vda_security', 'vda_member', 'vda_token') \gexec
END`)
	for _, line := range strings.Split(strings.TrimSpace(rows), "\n") {
		if !strings.HasPrefix(line, "0|") {
			r.t.Errorf("rows left in SQL: %s", line)
		}
	}
	for _, host := range []string{"dn0", "dn1", "cn0", "cn1"} {
		rpc := "vda_rpc -s /tmp/" + host[:2] + ".sock "
		for _, list := range []string{"bdev_get_bdevs", "bdev_lvol_get_lvstores", "bdev_nvme_get_controllers"} {
			if out := strings.TrimSpace(r.run(host, rpc+list)); out != "[]" {
				r.t.Errorf("%s: %s still has %s", host, list, out)
			}
		}
		if out := r.run(host, rpc+"nvmf_get_subsystems"); strings.Contains(out, "vda-") {
			r.t.Errorf("%s: a subsystem of VDA is left: %s", host, out)
		}
	}
	if !r.t.Failed() {
		fmt.Println("everything deleted: no object in SQL, none in any data plane")
	}
}
