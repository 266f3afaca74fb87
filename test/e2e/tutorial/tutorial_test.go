package tutorial

import (
	"os"
	"strings"
	"testing"
)

func TestParseTheTutorial(t *testing.T) {
	f, err := os.Open("../../../docs/multiple_servers_deployment.rst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	steps, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	var sql, outputs int
	for _, s := range steps {
		count[s.Host]++
		if s.Stdin != "" {
			sql = strings.Count(s.Stdin, ";")
		}
		if s.Output != "" {
			outputs++
		}
	}
	for _, host := range []string{"postgresql", "portal", "monitor", "dn0", "dn1", "cn0", "cn1", "cli", "host0", "host1"} {
		if count[host] == 0 {
			t.Errorf("no command for %s", host)
		}
	}
	if sql != 3 {
		t.Errorf("%d SQL statements, want 3", sql)
	}
	if want := 8; outputs != want {
		t.Errorf("%d commands show output, want %d", outputs, want)
	}
}

func TestParseRefusesWhatItCannotPlace(t *testing.T) {
	for _, doc := range []string{
		"Overview\n^^^^\n\n.. code-block:: none\n\n   sudo ls\n",
		"Configure dn0\n^^^^\n\n.. code-block:: none\n\n   what is this\n",
	} {
		if _, err := Parse(strings.NewReader(doc)); err == nil {
			t.Errorf("no error for %q", doc)
		}
	}
}

func TestCompare(t *testing.T) {
	get := Step{Command: "vda_cli exp get", Output: `{"id":"1901d2298e404ac8a27989c2f4da7a2e","n":0}`}
	if err := get.Compare(`{"n":0,"id":"00000000000000000000000000000000"}`); err != nil {
		t.Error(err)
	}
	if err := get.Compare(`{"n":1,"id":"00000000000000000000000000000000"}`); err == nil {
		t.Error("a wrong value was not seen")
	}
	list := Step{Command: "sudo nvme list-subsys -o json", Output: `{"NQN":"q","Paths":[{"Transport":"tcp","Address":"traddr=1.2.3.4 trsvcid=1","State":"live"}]}`}
	if err := list.Compare(`{"NQN":"q","Paths":[{"Transport":"tcp","Address":"traddr=1.2.3.4,trsvcid=1,src_addr=5","State":"live"}]}`); err != nil {
		t.Error(err)
	}
	if err := list.Compare(`{"NQN":"q","Paths":[{"Transport":"tcp","Address":"traddr=1.2.3.4,trsvcid=1","State":"connecting"}]}`); err == nil {
		t.Error("a path that is not live was not seen")
	}
	parted := Step{Command: "sudo parted", Output: "Model: X (nvme)\nDisk Flags:\n"}
	if err := parted.Compare("Model: X  (nvme)\nDisk Flags: \n"); err != nil {
		t.Error(err)
	}
	if err := parted.Compare("Model: Y (nvme)\nDisk Flags: \n"); err == nil {
		t.Error("a missing line was not seen")
	}
}
