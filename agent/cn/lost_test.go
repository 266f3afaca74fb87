package cn_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/virtual-disk-array/vda/agent/planetest"
)

// While a controller is taken down its connections are asked for by name, however
// many others there are, and one that is lost meanwhile is cut.
func TestLostConnectionsAreLookedForByName(t *testing.T) {
	inBubble(t, 2, false, lostConnectionsAreLookedForByName)
}

func lostConnectionsAreLookedForByName(l *lab) {
	t := l.T
	l.up(0)
	l.spec.Create = false
	p := l.cns[0].plane
	begun, ended := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	var mu sync.Mutex
	asked, cut := map[any]int{}, map[any]int{}
	p.SetHook(func(method string, a map[string]any) error {
		mu.Lock()
		switch method {
		case "bdev_nvme_get_controllers":
			asked[a["name"]]++
		case "bdev_nvme_disable_controller":
			cut[a["name"]]++
		}
		mu.Unlock()
		if method == "bdev_raid_delete" {
			begin()
			<-ended
		}
		return nil
	})
	gone := make(chan struct{})
	l.term++
	go func() {
		defer close(gone)
		l.sync(0, l.cntlr(0, 1)) // waits for the raid
	}()
	<-begun
	mu.Lock()
	clear(asked)
	mu.Unlock()
	vds := []any{"vda-vd-" + id("b0", 0), "vda-vd-" + id("b0", 1)}
	await := func(what string, ok func() bool) {
		t.Helper()
		planetest.Eventually(t, func() string {
			mu.Lock()
			defer mu.Unlock()
			if ok() {
				return ""
			}
			return fmt.Sprintf("%s: asked for %v, cut %v", what, asked, cut)
		})
	}
	await("both are looked for", func() bool { return asked[vds[0]] > 2 && asked[vds[1]] > 2 })
	p.Cut(l.dns[1].plane, true)
	await("the lost one is cut", func() bool { return maps.Equal(cut, map[any]int{vds[1]: 1}) })
	p.Cut(l.dns[1].plane, false)
	close(ended)
	<-gone
}
