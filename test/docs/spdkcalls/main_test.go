package main

import (
	"os"
	"strings"
	"testing"
)

// TestTableIsCurrent: docs/spdk.md lists what the agents call.
func TestTableIsCurrent(t *testing.T) {
	const root, page = "../../..", "../../../docs/spdk.md"
	want, err := document(root, page)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/spdk.md is not current: run go run ./test/docs/spdkcalls docs/spdk.md")
	}
}

func TestTableKnowsWhoCallsWhat(t *testing.T) {
	text, err := table("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `bdev_aio_create` | dn | refused: dn | makes a bdev of a file or block device and returns its name |",
		"| `bdev_raid_create` | cn | refused: cn |",
		"| `nvmf_create_transport` | cn, dn | refused: cn, dn |",
		"| `bdev_nvme_set_options` | cn, dn | VDA goes without |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %s", want)
		}
	}
	for _, no := range []string{"bdev_null_create", "bdev_set_options"} {
		if strings.Contains(text, "`"+no+"`") {
			t.Errorf("the table says that the agents call %s", no)
		}
	}
}
