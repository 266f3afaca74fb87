package csi

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"

	"github.com/virtual-disk-array/vda/agent/planetest"
	vdacsi "github.com/virtual-disk-array/vda/csi"
	"github.com/virtual-disk-array/vda/csi/node"
)

// skipped are the tests of csi-sanity that do not run, each with the reason. Any other
// that is skipped fails TestSanity, and so does one of these that runs.
var skipped = map[string]string{
	"node max attach limit":               "a host may use as many volumes as it likes",
	"with accessibility requirements":     "a snapshot is where its volume is, which can be used from everywhere",
	"should detect volumes added between": "csi-sanity itself leaves it out",
}

// TestSanity runs csi-sanity, the conformance suite of CSI drivers.
func TestSanity(t *testing.T) {
	c := newCluster(t, 2)
	dir, err := os.MkdirTemp("", "csi") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctl := c.controller()
	m := newMachine(t, "node0")
	srv := vdacsi.NewServer(vdacsi.Config{Controller: ctl, Groups: ctl, Node: node.New(node.Config{Host: m, FileSystems: m, Location: "rack0",
		Log: planetest.Log()}),
		Log: planetest.Log()})
	lis, err := vdacsi.Listen(t.Context(), "unix://"+filepath.Join(dir, "csi.sock"))
	if err != nil {
		t.Fatal(err)
	}
	c.run(func(ctx context.Context) error { return srv.Serve(ctx, lis) })

	cfg := sanity.NewTestConfig()
	cfg.Address = "unix://" + filepath.Join(dir, "csi.sock")
	cfg.TargetPath, cfg.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	cfg.TestVolumeSize, cfg.TestVolumeExpandSize = 4<<20, 8<<20
	cfg.TestVolumeParameters = map[string]string{"cntlrCnt": "2", "stripeCount": "2", "physicalRatio": "50"}
	cfg.TestVolumeMutableParameters = map[string]string{"rwIosPerSec": "5000", "rMbytesPerSec": "20"}
	cfg.IdempotentCount = 3

	sc := sanity.GinkgoTest(&cfg)
	gomega.RegisterFailHandler(ginkgo.Fail)
	suite, reporter := ginkgo.GinkgoConfiguration()
	reporter.Succinct = true
	passed, left := 0, maps.Clone(skipped)
	ginkgo.ReportAfterSuite("skipped", func(r ginkgo.Report) {
		for _, s := range r.SpecReports {
			if s.State == types.SpecStatePassed {
				passed++
			}
			if s.State != types.SpecStateSkipped && s.State != types.SpecStatePending {
				continue
			}
			known := false
			for k := range skipped {
				if strings.Contains(s.FullText(), k) {
					known = true
					delete(left, k)
				}
			}
			if !known {
				t.Errorf("skipped: %s: %s", s.FullText(), s.Failure.Message)
			}
		}
	})
	ginkgo.RunSpecs(t, "csi-sanity", suite, reporter)
	sc.Finalize()
	if passed < 85 {
		t.Errorf("%d tests passed", passed)
	}
	for k := range left {
		t.Errorf("%q is said to be skipped, and was not", k)
	}
}
