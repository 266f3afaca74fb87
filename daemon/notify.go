package daemon

import (
	"context"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Serving tells systemd that the program serves, when a unit of Type=notify has
// started it, and until stop is called that it is alive, twice per WatchdogSec=.
// stop says that the program is stopping. Elsewhere both do nothing.
func Serving() (stop func()) {
	// What systemd does not hear, it acts upon; there is nobody else to tell.
	told, _ := sd.SdNotify(false, sd.SdNotifyReady)
	if !told {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	if within, err := sd.SdWatchdogEnabled(false); err == nil && within > 0 {
		wg.Go(func() {
			tick := time.NewTicker(within / 2)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
	}
}
