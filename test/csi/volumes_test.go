package csi

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/cli"
	"github.com/virtual-disk-array/vda/program"
)

// page types the commands of documents.
type page struct {
	*cluster
	n int // commands typed
}

// types runs a line as a shell would, and returns what it printed. A line that is not a command
// of vda_cli fails the test: nothing else would run it.
func (p *page) types(line string) string {
	p.Helper()
	words := regexp.MustCompile(`'[^']*'|[^\s']+`).FindAllString(line, -1)
	if words[0] != "vda_cli" {
		p.Fatalf("%s: nothing runs it", line)
	}
	for i := range words {
		words[i] = strings.Trim(words[i], "'")
	}
	var out, errOut bytes.Buffer
	exit := cli.Program().Run(p.Context(), program.Process{Args: words[1:], Stdout: &out, Stderr: &errOut,
		Getenv: func(name string) (string, bool) { return p.addr, name == "VDA_PORTAL" }})
	if exit != 0 {
		p.Fatalf("%s: exit %d\n%s%s", line, exit, &errOut, &out)
	}
	var reply struct {
		Info struct {
			Code int    `json:"reply_code"`
			Msg  string `json:"reply_msg"`
		} `json:"reply_info"`
	}
	if err := json.Unmarshal(out.Bytes(), &reply); err != nil || reply.Info.Code != 0 || reply.Info.Msg != "success" {
		p.Errorf("%s: %v\n%s", line, err, &out)
	}
	p.n++
	return out.String()
}

// TestVolumesDoc types every command of docs/volumes.md, in its order, on data planes that do what
// they are told. In the end all arrays are well and are what the page has made of them.
func TestVolumesDoc(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/volumes.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{cluster: newCluster(t, 3)}
	p.types("vda_cli da create --da-name da0 --cntlr-cnt 2 --da-size 16M")
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
			line, _, _ = strings.Cut(line, "  #")
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				p.types(line)
			}
		}
	}
	if marks := strings.Count(string(text), "\nvda_cli ") + 1; p.n != marks {
		t.Errorf("%d commands were typed, and the page has %d", p.n, marks)
	}
	for name, size := range map[string]uint64{"da0": 16 << 20, "ledger": 4 << 20, "limited": 16 << 20, "growing": 24 << 20,
		"bymark": 64 << 20, "roomy": 4 << 20, "redo": 4 << 20, "tables": 4 << 20, "books": 4 << 20, "audit": 4 << 20, "bench": 8 << 20,
		"quorum": 8 << 20, "shop": 4 << 20} {
		p.well(name, size)
	}
	list, err := p.portal.ListDa(t.Context(), &apiv1.ListDaRequest{})
	if err != nil || len(list.DaMsgList) != 13 {
		t.Errorf("%d arrays are left, %v", len(list.GetDaMsgList()), err)
	}
}

// well waits until an array is without error, has so many bytes, in its data plane too, all its
// snapshots, and all data of its own.
func (p *page) well(name string, size uint64) {
	p.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r, err := p.portal.GetDa(p.Context(), &apiv1.GetDaRequest{DaName: name})
		if err != nil {
			p.Fatal(err)
		}
		m := r.DaMsg
		snaps, err := p.portal.ListSnap(p.Context(), &apiv1.ListSnapRequest{DaName: &name})
		if err != nil {
			p.Fatal(err)
		}
		waits := m.CloneOf != "" || m.Error || m.DaSize != size
		for _, s := range snaps.SnapMsgList {
			waits = waits || s.State != "taken" || s.Rollback != "" || s.Error
		}
		if !waits {
			return
		}
		if time.Now().After(end) {
			p.Fatalf("%s: want %d bytes and no error: %v, %v", name, size, m, snaps)
		}
	}
}
