package agent_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/planetest"
)

// A panic ends the pass of its unit, wherever in the pass it happens, and the
// unit's objects say so. Others go on, and so does the unit when the cause is
// gone.
func TestAPanicEndsItsUnitsPassAlone(t *testing.T) {
	t.Parallel()
	well := make(chan struct{})
	l := agent.NewLoop(agent.LoopConfig{
		RetryMin: time.Millisecond, RetryMax: time.Millisecond, Log: planetest.Log(),
		IDs: func(key string) []string { return []string{key, key + "-es"} },
		Pass: func(_ context.Context, key string) agent.Result {
			broken := true
			select {
			case <-well:
				broken = false
			default:
			}
			switch {
			case !broken || key == "good":
			case key == "own":
				panic("of its own")
			case key == "parallel":
				_ = agent.Parallel(3, func(i int) error {
					none := make([]int, 0)
					none[i]++
					return nil
				})
			case key == "group":
				var g agent.Group
				g.Go(func() { panic("in a group") })
				g.Wait()
			}
			return agent.Result{}
		},
	})
	defer l.Close()
	for key, word := range map[string]string{"own": "of its own", "parallel": "out of range", "group": "in a group"} {
		r, done := l.Wait(t.Context(), key, l.Kick(key, false))
		if !done || !strings.Contains(r.Errs[key], word) || !strings.Contains(r.Errs[key+"-es"], word) {
			t.Errorf("%s: %v, %v", key, r, done)
		}
	}
	if r, done := l.Wait(t.Context(), "good", l.Kick("good", false)); !done || len(r.Errs) > 0 {
		t.Errorf("good: %v, %v", r, done)
	}
	close(well)
	planetest.Eventually(t, func() string {
		for id, msg := range l.Errors() {
			return id + ": " + msg
		}
		return ""
	})
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for id, valid := range map[string]bool{
		"": false, "-": false, "----------------": false, "d0": true, "c1057e00000000000000000000000001": true,
		"c1057e00-0000-0000-0000-000000000001": true, "../../etc/passwd": false, "d0\n": false, strings.Repeat("a", 37): false,
	} {
		if agent.ValidID(id) != valid {
			t.Errorf("%q: %v", id, !valid)
		}
	}
	var ids agent.IDs
	if err := ids.Sender("----------------", "d0"); err == nil || !strings.Contains(err.Error(), "cluster_id") {
		t.Error(err)
	}
	if err := ids.Sender("c1057e000000000-", "d0"); err == nil {
		t.Error("a cluster of 15 digits is taken")
	}
	if err := ids.Object("pds.id", "aa"); err != nil {
		t.Error(err)
	}
	if err := ids.Object("vds.id", "aa"); err == nil || !strings.Contains(err.Error(), "pds.id") {
		t.Error(err)
	}
}
