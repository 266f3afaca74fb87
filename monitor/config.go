package monitor

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// Config is what a Monitor needs.
type Config struct {
	// Store is the cluster's database.
	Store store.Store
	// Dial reaches the agents.
	Dial syncer.Dialer
	// Name is where this monitor serves: other monitors ask it there what it
	// hears of a node that is silent to them.
	Name string
	// Identity is who the monitor is; nil: it is plain. Dial has it too.
	Identity *pki.Identity
	// ScrapeToken gets who shows it /metrics of a secured monitor; "": nobody but members.
	ScrapeToken string
	// Timing says when; zero fields get the defaults.
	Timing Timing
	// Parallel bounds the Sync calls under way at once. Default 64.
	Parallel int
	// KeepEvents is how many events stay in the database, which all monitors of a cluster
	// should agree on. Default 100,000.
	KeepEvents int
	// Events counts events of Store, and is shown with the metrics; nil: there are none.
	Events *syncer.EventMetrics
	// Log gets changes of nodes and what was done about them; default
	// slog.Default().
	Log *slog.Logger
}

// Timing holds the periods and time-outs of a Monitor.
type Timing struct {
	// Period is the time between a node's heartbeats. Default 500 ms.
	Period time.Duration
	// Timeout is how long one heartbeat may take; below Period. Default
	// 450 ms.
	Timeout time.Duration
	// Misses is how many heartbeats in a row must get no answer before a node
	// is down. A refused connection counts as all of them. Default 6.
	Misses int
	// CnLease is how long the primaries of a cn may go on with a vd lost after
	// the last beat that was answered; below Misses times Period, after which
	// they may be replaced. Default two thirds of that.
	CnLease time.Duration
	// ReachDelay is how long a primary must have been cut off from a vd whose
	// dn is well before another controller takes over; ReachHold how long it
	// must have been primary, so that arrays do not go to and fro. Defaults 5 s
	// and 30 s.
	ReachDelay, ReachHold time.Duration
	// RepairAfter is how long a cn must be down before its controllers are
	// made again on others. Default 10 min.
	RepairAfter time.Duration
	// ReplaceAfter is how long a leg of a mirror must be away before another is made
	// in its place. Default 10 min.
	ReplaceAfter time.Duration
	// FlapWait is how long a leg waits that was lost three times in 10 minutes before it
	// is taken back: twice as long with each further loss, up to 16 times. Default 1 min.
	FlapWait time.Duration
	// Refresh is how often the picture of the cluster is read from SQL.
	// Default 1 s.
	Refresh time.Duration
	// StaleAfter is the age above which the picture is not acted upon; below
	// Lease. Default 3 s.
	StaleAfter time.Duration
	// Lease is how long a monitor that is not heard of keeps its nodes.
	// Default 5 s.
	Lease time.Duration
	// Grace is how long a node may be behind before it is synced: the portal
	// that changed it is probably at it. Default 2 s.
	Grace time.Duration
	// SyncTimeout bounds one Sync call. Default 20 s.
	SyncTimeout time.Duration
	// RetryMin and RetryMax bound the pause after a Sync that did not bring
	// the node to its version. Defaults 2 s and 10 s.
	RetryMin, RetryMax time.Duration
	// FullPeriod is how often a node gets all its objects. Default 60 s.
	FullPeriod time.Duration
}

func (c *Config) validate() error {
	if c.Store == nil || c.Dial == nil {
		return errors.New("monitor: Config needs a Store and a Dialer")
	}
	if c.Parallel <= 0 {
		c.Parallel = 64
	}
	if c.KeepEvents <= 0 {
		c.KeepEvents = 100_000
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c.Timing.validate()
}

func (t *Timing) validate() error {
	for _, d := range []struct {
		v    *time.Duration
		name string
		def  time.Duration
	}{
		{&t.Period, "heartbeat-period", 500 * time.Millisecond}, {&t.Timeout, "heartbeat-timeout", 450 * time.Millisecond}, {&t.Refresh,
			"refresh", time.Second},
		{&t.StaleAfter, "stale-after", 3 * time.Second}, {&t.Lease, "lease", 5 * time.Second}, {&t.Grace, "grace",
			2 * time.Second}, {&t.SyncTimeout, "sync-timeout", 20 * time.Second},
		{&t.ReachDelay, "reach-delay", 5 * time.Second}, {&t.ReachHold, "reach-hold", 30 * time.Second}, {&t.RepairAfter,
			"repair-after", 10 * time.Minute},
		{&t.ReplaceAfter, "replace-after", 10 * time.Minute}, {&t.FlapWait, "flap-wait", time.Minute},
		{&t.RetryMin, "retry-min", 2 * time.Second}, {&t.RetryMax, "retry-max", 10 * time.Second}, {&t.FullPeriod,
			"full-sync-period", time.Minute},
	} {
		if *d.v < 0 {
			return fmt.Errorf("%s %v must be above 0", d.name, *d.v)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if t.Misses == 0 {
		t.Misses = 6
	}
	silence := time.Duration(t.Misses) * t.Period
	if t.CnLease == 0 {
		t.CnLease = silence * 2 / 3
	}
	switch {
	case t.Misses < 0:
		return fmt.Errorf("heartbeat-misses %d must be above 0", t.Misses)
	case t.CnLease < time.Millisecond || t.CnLease >= silence:
		return fmt.Errorf("cn-lease %v must be at least 1ms and below heartbeat-misses times heartbeat-period, %v: an old primary must have "+
			"stopped before there is a new one", t.CnLease, silence)
	case t.Timeout >= t.Period:
		return fmt.Errorf("heartbeat-timeout %v must be below heartbeat-period %v: else a hung node delays its own detection", t.Timeout,
			t.Period)
	case t.StaleAfter <= t.Refresh:
		return fmt.Errorf("stale-after %v must be above refresh %v", t.StaleAfter, t.Refresh)
	case t.Lease <= t.StaleAfter:
		return fmt.Errorf("lease %v must be above stale-after %v: a monitor must stop to act before another may", t.Lease, t.StaleAfter)
	case t.RetryMax < t.RetryMin:
		return fmt.Errorf("retry-max %v must not be below retry-min %v", t.RetryMax, t.RetryMin)
	}
	return nil
}
