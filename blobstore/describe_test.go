package blobstore

import (
	"testing"
	"time"
)

// TestDescriptionsDoNotWait: what lists of bdevs say of a blob comes also while a
// change of its store waits for a device that does not answer. An agent that
// asks for all bdevs of a data plane would else wait for one array's lost disk.
func TestDescriptionsDoNotWait(t *testing.T) {
	f := newFamily(t)
	f.store.md.Lock() // as any change has it until the device has answered
	defer f.store.md.Unlock()
	said := make(chan string, 1)
	go func() {
		for _, b := range []*Blob{f.v, f.s1, f.s2} {
			b.ID()
			b.Clusters()
			b.Blocks()
			b.Allocated()
			b.Thin()
			b.ReadOnly()
			b.Parent()
			b.Clones()
			b.External()
			b.Origin()
			b.HasOutside()
		}
		f.store.BlockSize()
		f.store.ClusterSize()
		f.store.DataClusters()
		f.store.FreeClusters()
		said <- f.v.ExternalID()
	}()
	select {
	case id := <-said:
		if id != "" {
			t.Errorf("a blob without a parent outside the store calls one %q", id)
		}
	case <-time.After(time.Minute):
		t.Fatal("a description waits for the metadata")
	}
}
