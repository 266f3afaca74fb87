package portal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// placeAttempts is how often an array is placed anew because others took its
// places between the look and the transaction. Each time, somebody else's
// array has been made, so it takes as many rivals to run out.
const placeAttempts = 30

// errStale says that the cluster is no longer what the plan was made for.
var errStale = errors.New("the cluster has changed since the array was placed")

// CreateDa makes a disk array.
func (s *Server) CreateDa(ctx context.Context, req *apiv1.CreateDaRequest) (*apiv1.CreateDaReply, error) {
	da, st, err := newDA(req)
	if err != nil {
		return nil, err
	}
	vdBytes := vdSize(da.PhysicalSize, da.ClusterSize, st)
	var p *plan
	var nodes daNodes
	for range placeAttempts {
		err = s.view(ctx, func(tx store.Reader) (err error) {
			if err := daNameFree(tx, da); err != nil {
				return err
			}
			p, err = placeDA(tx, da, vdBytes, placement.Strictness(req.Strict))
			return err
		})
		if err != nil {
			return nil, err
		}
		err = s.update(ctx, func(tx store.Tx) (err error) {
			if err := daNameFree(tx, da); err != nil {
				return err
			}
			nodes, err = writeDA(tx, da, p)
			return err
		})
		if !errors.Is(err, errStale) {
			break
		}
	}
	if errors.Is(err, errStale) {
		return nil, vda.Errorf(vda.Conflict, "the places chosen for %s were taken by others %d times in a row", da.Name, placeAttempts)
	}
	if err != nil {
		return nil, err
	}
	read := func() (*apiv1.DaMsg, error) { return s.daMsg(ctx, byID(da.ID)) }
	notes := s.syncSteps(ctx, nodes.dns, nodes.primary, nodes.secondaries)
	now, err := read()
	if notes == nil {
		now, err = settle(ctx, s.cfg.SettleTime, now, err, func(m *apiv1.DaMsg) bool { return !m.Error }, func() (*apiv1.DaMsg, error) {
			s.syncSteps(ctx, nodes.dns, nodes.primary, nodes.secondaries)
			return read()
		})
	}
	msg, remarks := shown(now, err, daMsg(da))
	if notes == nil && msg.Error {
		notes = []string{"not all of it is up yet (" + msg.ErrorMsg + ")"}
	}
	if err == nil && msg.Error {
		if err := s.undoForSpace(ctx, da); err != nil {
			return nil, err
		}
	}
	if da.Thin() {
		p.warnings = append(p.warnings, fmt.Sprintf("the array is thin: it promises %d bytes and has bought %d; writes fail when those are used up", da.Size, da.PhysicalSize))
	}
	return &apiv1.CreateDaReply{ReplyInfo: done("the da is created", notes, remarks...), DaMsg: msg, WarningList: p.warnings}, nil
}

// newDA checks a request and makes the row of it.
func newDA(req *apiv1.CreateDaRequest) (*vda.DA, striping, error) {
	var st striping
	if err := checkName("da_name", req.DaName); err != nil {
		return nil, st, err
	}
	cntlrs := max(req.CntlrCnt, 1)
	if cntlrs > maxCntlrCount {
		return nil, st, invalid("cntlr_cnt is %d; it must be 1 to %d, and at most the number of cns", cntlrs, maxCntlrCount)
	}
	cluster := clusterSizeFor(req.DaSize)
	if err := checkSize("da_size", req.DaSize, cluster); err != nil {
		return nil, st, err
	}
	physical := req.DaSize
	if req.PhysicalSize != nil {
		physical = *req.PhysicalSize
		if err := checkSize("physical_size", physical, cluster); err != nil {
			return nil, st, err
		}
	}
	if req.DaSize/physical > maxThin || req.DaSize/physical == maxThin && req.DaSize%physical != 0 {
		least := ((req.DaSize-1)/maxThin/cluster + 1) * cluster
		return nil, st, invalid("physical_size is %d bytes, less than 1/%d of da_size; the smallest for this array is %d", physical, maxThin, least)
	}
	st, err := parseDAConf("da_conf", req.DaConf)
	if err != nil {
		return nil, st, err
	}
	conf := req.DaConf
	if conf == "" {
		conf = fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":%d}`, st.count, st.sizeKB)
	}
	return &vda.DA{ID: newID(), Name: req.DaName, Size: req.DaSize, PhysicalSize: physical, CntlrCnt: cntlrs,
		StripeCount: st.count, StripeSizeKB: st.sizeKB, Conf: conf, ClusterSize: cluster, Term: 1}, st, nil
}

func daNameFree(tx store.Reader, da *vda.DA) error {
	old, err := tx.DAByName(da.Name)
	return taken(err, func() error {
		return exists("da", da.Name,
			parameter{"da_size", old.Size, da.Size}, parameter{"physical_size", old.PhysicalSize, da.PhysicalSize},
			parameter{"cntlr_cnt", old.CntlrCnt, da.CntlrCnt},
			parameter{"stripe_count", old.StripeCount, da.StripeCount}, parameter{"stripe_size_kb", old.StripeSizeKB, da.StripeSizeKB})
	})
}

// daNodes are the nodes of an array, by when they are brought up to date.
type daNodes struct {
	dns, primary, secondaries []node
}

// writeDA writes all rows of a new array and takes its space. errStale when a
// place of the plan is gone.
func writeDA(tx store.Tx, da *vda.DA, p *plan) (daNodes, error) {
	var nodes daNodes
	if err := tx.InsertDA(da); err != nil {
		return nodes, err
	}
	versions := map[string]uint64{}
	// Rows are locked in one order everywhere, so that nobody waits in a
	// circle: arrays, then parts, then nodes, each by id.
	if err := takeSpace(tx, p.vds); err != nil {
		return nodes, err
	}
	for _, dnID := range sortedIDs(p.vds, func(v placement.VD) string { return v.DNID }) {
		dn, err := tx.DN(dnID)
		if err != nil {
			return nodes, stale(err)
		}
		if !dn.Online {
			return nodes, errStale
		}
		if versions[dnID], err = tx.BumpNode(vda.DiskNode, dnID); err != nil {
			return nodes, err
		}
		nodes.dns = append(nodes.dns, dnNode(dn))
	}
	var total uint64
	for i, v := range p.vds {
		total += v.Size
		vd := &vda.VD{ID: newID(), DAID: da.ID, Idx: uint32(i), PDID: v.PDID, DNID: v.DNID, Clusters: v.Clusters, Size: v.Size, Version: versions[v.DNID]}
		if err := tx.InsertVD(vd); err != nil {
			return nodes, err
		}
	}
	if err := tx.InsertGrp(&vda.Grp{ID: newID(), DAID: da.ID, Size: total}); err != nil {
		return nodes, err
	}
	for _, cnID := range sortedIDs(p.cntlrs, func(c placement.Cntlr) string { return c.CNID }) {
		i := slices.IndexFunc(p.cntlrs, func(c placement.Cntlr) bool { return c.CNID == cnID })
		cn, err := tx.CN(cnID)
		if err != nil {
			return nodes, stale(err)
		}
		if !cn.Online {
			return nodes, errStale
		}
		version, err := tx.BumpNode(vda.ControllerNode, cnID)
		if err != nil {
			return nodes, err
		}
		cntlr := &vda.Cntlr{ID: newID(), DAID: da.ID, CNID: cnID, Idx: uint32(i), Primary: p.cntlrs[i].Primary, Version: version}
		if err := tx.InsertCntlr(cntlr); err != nil {
			return nodes, err
		}
		nodes.add(cntlr, cn)
	}
	return nodes, nil
}

func (n *daNodes) add(c *vda.Cntlr, cn *vda.CN) {
	if c.Primary {
		n.primary = append(n.primary, cnNode(cn))
	} else {
		n.secondaries = append(n.secondaries, cnNode(cn))
	}
}

// takeSpace promises the plan's clusters to its vds.
func takeSpace(tx store.Tx, vds []placement.VD) error {
	vds = slices.SortedFunc(slices.Values(vds), func(a, b placement.VD) int { return cmp.Compare(a.PDID, b.PDID) })
	for _, v := range vds {
		pd, err := tx.PD(v.PDID)
		if err != nil {
			return stale(err)
		}
		if pd.Deleted || !pd.Online || pd.FreeClusters < v.Clusters || pd.ClusterSize*v.Clusters != v.Size {
			return errStale
		}
		if err := tx.TakePD(v.PDID, v.Clusters); isKind(err, vda.ResourceExhausted) {
			return errStale
		} else if err != nil {
			return err
		}
	}
	return nil
}

// stale turns "not found" of a planned place into errStale.
func stale(err error) error {
	if isKind(err, vda.NotFound) {
		return errStale
	}
	return err
}

func sortedIDs[T any](rows []T, id func(T) string) []string {
	set := map[string]bool{}
	for _, r := range rows {
		set[id(r)] = true
	}
	return slices.Sorted(maps.Keys(set))
}
