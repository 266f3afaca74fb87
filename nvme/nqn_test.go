package nvme

import (
	"strings"
	"testing"
)

func TestCheckSubsystemNQN(t *testing.T) {
	for _, nqn := range []string{
		"nqn.2016-06.io.spdk:x", "nqn.2016-06.io.spdk:uuid:notauuid", "nqn.2016-06.localhost:x", "nqn.2016-06.a.b-c.d9:äö:/ x",
		"nqn.2014-08.org.nvmexpress:uuid:99de7d27-c204-4b26-aca8-456feb7927ad",
		"nqn.2014-08.org.nvmexpress:uuid:99DE7D27-C204-4B26-ACA8-456FEB7927AD",
		"nqn.2014-08.org.nvmexpress:x", DiscoveryNQN,
		"nqn.2016-06.io." + strings.Repeat("a", 63) + ":x",
	} {
		if err := CheckSubsystemNQN(nqn); err != nil {
			t.Errorf("%s: %v", nqn, err)
		}
	}
	for nqn, says := range map[string]string{
		"":                         "empty",
		"nqn.bad":                  `"bad" is not a year and month`,
		"nqn.2016-06":              "no name behind a colon",
		"nqn.2016-06.":             "no name behind a colon",
		"nqn.2016-06:x":            `"2016-06:x" is not a year`,
		"nqn.2016-06.:x":           `"" in the domain`,
		"nqn.2016-6.io.spdk:x":     `"2016-6" is not a year`,
		"nqn.2016-06.io..spdk:x":   `"" in the domain`,
		"nqn.2016-06.io.spdk.:x":   `"" in the domain`,
		"nqn.2016-06.io.-spdk:x":   `"-spdk"`,
		"nqn.2016-06.io.spdk-:x":   `"spdk-"`,
		"nqn.2016-06.io.9spdk:x":   `"9spdk"`,
		"nqn.2016-06.io_x.spdk:x":  `"io_x"`,
		"nqn.2016-06.io.spdkä:x":   `"spdkä"`,
		"nqn.2016-06.io.spdk":      "no name behind a colon",
		"nqn.2016-06.io.spdk:":     "no name behind a colon",
		"nqn.2016-06.io.spdk:\xff": "UTF-8",
		"nqn.2016-06.io.spdk:a\nb": "control character",
		"iqn.2016-06.io.spdk:x":    `"nqn."`,
		uuidPrefix + "notauuid":    `"notauuid" is not a UUID`,
		uuidPrefix:                 "not a UUID",
		uuidPrefix + "99de7d27c2044b26aca8456feb7927ad":                                    "not a UUID of 36",
		"nqn.2016-06.io." + strings.Repeat("a", 64) + ":x":                                 "up to 63",
		"nqn.2016-06.io.spdk:" + strings.Repeat("x", NQNMax+1-len("nqn.2016-06.io.spdk:")): "at most 223",
	} {
		if err := CheckSubsystemNQN(nqn); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q", nqn, err, says)
		}
	}
}
