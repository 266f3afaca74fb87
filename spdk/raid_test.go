package spdk

import (
	"encoding/json"
	"testing"
)

func TestRaidBasesOfAllVersions(t *testing.T) {
	for name, text := range map[string]string{
		"23.09": `{"name":"r","state":"online","base_bdevs_list":["a",null]}`,
		"26.05": `{"name":"r","state":"online","base_bdevs_list":[{"name":"a","uuid":"x","is_configured":true,"data_size":7},{"name":null,"is_configured":false}]}`,
	} {
		var r Raid
		if err := json.Unmarshal([]byte(text), &r); err != nil || len(r.BaseBdevs) != 2 {
			t.Errorf("%s: %v, %+v", name, err, r)
			continue
		}
		if a, b := r.BaseBdevs[0], r.BaseBdevs[1]; a.Name == nil || *a.Name != "a" || !a.IsConfigured || b.Name != nil || b.IsConfigured {
			t.Errorf("%s: %+v", name, r.BaseBdevs)
		}
	}
	var r Raid
	if err := json.Unmarshal([]byte(`{"base_bdevs_list":[7]}`), &r); err == nil {
		t.Error("a number passes for a member")
	}
}
