package bdevnvme

import (
	"encoding/json"
	"strings"
	"testing"
)

// Lists of bdevs describe thousands of these on a large node.
func TestToDescribeABdevIsCheap(t *testing.T) {
	r := newRig(t, 1)
	r.attach(0, func(c *AttachConfig) { c.Name = "ctrl" })
	d, ok := r.m.reg.Get("ctrln1")
	if !ok {
		t.Fatal("there is no bdev")
	}
	text, err := json.Marshal(d.(*disk).DriverSpecific())
	for _, want := range []string{`"oacs":{"security":0,"format":0,"firmware":0,"ns_manage":0}`, `"vs":{"nvme_version":"`, `"ns_data":{"id":1,`} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s, %v: without %s", text, err, want)
		}
	}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := json.Marshal(d.(*disk).DriverSpecific()); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 12 { // 22 with a map for each of two objects
		t.Errorf("%.0f allocations", allocs)
	}
}
