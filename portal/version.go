package portal

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// Programs gives clients of monitors and agents. A
// *syncer.Pool is one. Safe for concurrent use.
type Programs interface {
	Program(at vda.At) (apiv1.ProgramClient, error)
}

// Components of a cluster, in the order in which they are shown.
const (
	compPortal    = "portal"
	compMonitor   = "monitor"
	compDnAgent   = "dn_agent"
	compCnAgent   = "cn_agent"
	compDataPlane = "data_plane"
)

const (
	// askTimeout is how long programs have to tell their version, all together.
	askTimeout = 3 * time.Second
	// askParallel is how many are asked at once.
	askParallel = 64
	// tooOld is why a program answers without a version.
	tooOld = "it is too old to tell its version"
)

// ListVersion asks every program of the cluster for its version.
func (s *Server) ListVersion(ctx context.Context, _ *apiv1.ListVersionRequest) (*apiv1.ListVersionReply, error) {
	var c census
	if err := s.view(ctx, c.read); err != nil {
		return nil, err
	}
	return &apiv1.ListVersionReply{VersionMsgList: s.versions(ctx, &c, true)}, nil
}

// census is who there is in a cluster.
type census struct {
	monitors []string // where they serve, by name
	dns      []vda.DN
	cns      []vda.CN
}

// read fills it from the database.
func (c *census) read(tx store.Reader) error {
	monitors, err := tx.Monitors()
	if err != nil {
		return err
	}
	names := map[string]bool{} // one that was restarted may have two rows for a while
	for _, m := range monitors {
		names[m.Name] = true
	}
	c.monitors = slices.Sorted(maps.Keys(names))
	if c.dns, _, err = tx.ListDN(store.NodeFilter{}, store.Page{}); err != nil {
		return err
	}
	c.cns, _, err = tx.ListCN(store.NodeFilter{}, store.Page{})
	return err
}

// versions are those of this portal, the monitors, the agents and the data planes,
// in this order. The data planes' are what their agents said last, and so are the agents' own unless
// all is asked now: there may be ten thousand of them.
func (s *Server) versions(ctx context.Context, c *census, now bool) []*apiv1.VersionMsg {
	msgs := []*apiv1.VersionMsg{{Component: compPortal, Version: program.Version()}}
	ats := []vda.At{{}} // of the programs
	add := func(component string, at vda.At, version string) {
		msgs = append(msgs, &apiv1.VersionMsg{Component: component, Name: at.Name, Version: version})
		ats = append(ats, at)
	}
	for _, name := range c.monitors {
		add(compMonitor, vda.MonitorAt(name), "")
	}
	if !now {
		s.askVersions(ctx, msgs[1:], ats[1:])
	}
	for i := range c.dns {
		add(compDnAgent, c.dns[i].At(vda.DiskNode), c.dns[i].AgentVersion)
	}
	for i := range c.cns {
		add(compCnAgent, c.cns[i].At(vda.ControllerNode), c.cns[i].AgentVersion)
	}
	if now {
		s.askVersions(ctx, msgs[1:], ats[1:])
	}
	plane := func(name, version string) {
		m := &apiv1.VersionMsg{Component: compDataPlane, Name: name, Version: version}
		if version == "" {
			m.Problem = "no monitor has heard of it yet"
		}
		msgs = append(msgs, m)
	}
	for i := range c.dns {
		plane(c.dns[i].Name, c.dns[i].DataPlaneVersion)
	}
	for i := range c.cns {
		plane(c.cns[i].Name, c.cns[i].DataPlaneVersion)
	}
	return msgs
}

// askVersions fills in what programs say, or why they do not.
func (s *Server) askVersions(ctx context.Context, msgs []*apiv1.VersionMsg, ats []vda.At) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var all errgroup.Group
	all.SetLimit(askParallel)
	for i, m := range msgs {
		all.Go(func() error {
			m.Version, m.Problem = s.askVersion(ctx, ats[i])
			return nil
		})
	}
	_ = all.Wait() // none fails as a whole
}

func (s *Server) askVersion(ctx context.Context, at vda.At) (version, problem string) {
	if s.cfg.Programs == nil {
		return "", "this portal asks nobody"
	}
	p, err := s.cfg.Programs.Program(at)
	if err != nil {
		return "", reason.Of(err)
	}
	reply, err := p.Version(ctx, &apiv1.VersionRequest{})
	switch status.Code(err) {
	case codes.OK:
		return reply.Version, ""
	case codes.Unimplemented:
		return "", tooOld
	case codes.DeadlineExceeded, codes.Canceled:
		return "", "it does not answer"
	}
	return "", reason.Of(err)
}

// countVersions counts programs of the same component and version.
func countVersions(msgs []*apiv1.VersionMsg) []*apiv1.VersionCountMsg {
	var counts []*apiv1.VersionCountMsg
	for _, m := range msgs {
		same := func(c *apiv1.VersionCountMsg) bool { return c.Component == m.Component && c.Version == m.Version }
		if i := slices.IndexFunc(counts, same); i >= 0 {
			counts[i].Cnt++
			continue
		}
		counts = append(counts, &apiv1.VersionCountMsg{Component: m.Component, Version: m.Version, Cnt: 1})
	}
	order := []string{compPortal, compMonitor, compDnAgent, compCnAgent, compDataPlane}
	slices.SortStableFunc(counts, func(a, b *apiv1.VersionCountMsg) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Component), slices.Index(order, b.Component)), cmp.Compare(a.Version, b.Version))
	})
	return counts
}
