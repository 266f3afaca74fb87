package rpccli

import "strings"

// words are the parameters that are strings in every method of vda_tgt's and
// of SPDK's 26.05 that has them, UUIDs and words of a list among them.
var words = set(`
	action_on_timeout adrfam ana_state base_bdev base_bdev_name base_name bdev bdev_name category clear_method
	clone_name cmd_type core_mask cpumask da_id data_direction delay_bdev_name dhchap_ctrlr_key dhchap_key discovery_filter
	dst_bdev_name dup_host_policy error_type eui64 filename flag host hostaddr hostnqn hostsvcid id impl_name io_type key_name
	latency_type level lvol_name lvs_name lvs_uuid mirror_id mode model_number multipath name new_name nguid nqn old_name opc
	parent_name path policy poll_groups_mask priority psk raid_bdev raid_level repair_from reset_mode selector serial_number
	sig_name snapshot_name sock_impl src_lvol_name subnqn tgt_name traddr trsvcid trtype url uuid`)

func set(list string) map[string]bool {
	out := map[string]bool{}
	for _, word := range strings.Fields(list) {
		out[word] = true
	}
	return out
}

// IsWord reports that the parameter called name is a string whatever it looks
// like: --name 123 is "123".
func IsWord(name string) bool { return words[name] }
