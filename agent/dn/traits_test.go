package dn

import (
	"encoding/json"
	"maps"
	"testing"
)

func TestNVMeTraits(t *testing.T) {
	for text, want := range map[string]map[string]string{
		`{"nvme":[{"pci_address":"0000:65:00.0","ctrlr_data":{"cntlid":1,"model_number":"INTEL SSDPE2KE016T8 ","serial_number":"PHLN1234 "},"ns_data":{"id":1}}],"mp_policy":"active_passive"}`: {
			"serial": "PHLN1234", "model": "INTEL SSDPE2KE016T8"},
		`{"nvme":[{"ctrlr_data":{"serial_number":"  "}}]}`: {},
		`{"nvme":[]}`:            nil,
		`{"aio":{"filename":1}}`: nil,
		`null`:                   nil,
		``:                       nil,
	} {
		if got := nvmeTraits(json.RawMessage(text)); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
