//go:build !race

package sim

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// With the race detector this takes minutes and finds nothing that other seeds
// do not: test/all.sh runs it without.

// TestBrokenMirrorRulesAreFound: each rule of mirrors that is left out here costs
// data in some run.
func TestBrokenMirrorRulesAreFound(t *testing.T) {
	file := schema(t)
	for _, broken := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"bits are cleared while a leg is absent", Config{Break: core.ClearWhileAbsent, Long: true, Faults: 2 * time.Minute,
			Kinds: []string{"kill node", "isolate"}}, "legs differ"},
		{"no repair before read", Config{Break: core.NoRepair, CopyRate: 128 << 10, Kinds: []string{"kill", "hang"}}, "older again"},
	} {
		t.Run(broken.name, func(t *testing.T) {
			broken.cfg.Schema, broken.cfg.Redundancy = file, "mirror:2"
			mustFind(t, broken.cfg, broken.want)
		})
	}
}
