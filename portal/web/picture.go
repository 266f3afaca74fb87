package web

import (
	"fmt"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// picture is how hosts reach an array's data: hosts on the left, its controllers
// with the state that hosts see of their paths (ANA), and the legs of each column
// on disk nodes. All in the user units of an SVG.
type picture struct {
	Width, Height int
	Boxes         []box
	Lines         []line
	Words         string // the same for those who do not see it
}

type box struct {
	X, Y, W, H int
	Kind       string // host, primary, secondary, leg
	Bad        bool
	Name       string
	Note       string
	MidX       int
	NameY      int
	NoteY      int
	Group      string // column that a leg belongs to
}

type line struct {
	X1, Y1, X2, Y2 int
	Kind           string // optimized, non-optimized, data, chain or broken
}

const (
	boxW, boxH = 190, 46
	gapX, gapY = 90, 14
	margin     = 8
)

// right and left are where lines meet a box.
func (b *box) right() (x, y int) { return b.X + b.W, b.Y + b.H/2 }
func (b *box) left() (x, y int)  { return b.X, b.Y + b.H/2 }

func join(from, to *box, kind string) line {
	x1, y1 := from.right()
	x2, y2 := to.left()
	return line{x1, y1, x2, y2, kind}
}

// column places boxes one below the other, in the middle of height.
func column(boxes []box, index, height int) {
	y := margin + (height-columnHeight(len(boxes)))/2
	for i := range boxes {
		b := &boxes[i]
		b.X, b.Y, b.W, b.H = margin+index*(boxW+gapX), y, boxW, boxH
		b.MidX, b.NameY, b.NoteY = b.X+b.W/2, b.Y+20, b.Y+37
		y += boxH + gapY
	}
}

func columnHeight(n int) int { return max(n*(boxH+gapY)-gapY, 0) }

// draw makes the picture of an array.
func draw(da *apiv1.DaMsg, exps []*apiv1.ExpMsg) *picture {
	hosts, legs := hostBoxes(exps), legBoxes(da)
	cntlrs, at := cntlrBoxes(da)
	height := max(columnHeight(len(hosts)), columnHeight(len(cntlrs)), columnHeight(len(legs)))
	for i, boxes := range [][]box{hosts, cntlrs, legs} {
		column(boxes, i, height)
	}
	p := &picture{Width: 2*margin + 3*boxW + 2*gapX, Height: 2*margin + height}
	var primary *box
	for i := range cntlrs {
		if cntlrs[i].Kind == "primary" {
			primary = &cntlrs[i]
		}
	}
	p.Lines = append(p.Lines, pathLines(hosts, cntlrs, at, exps)...)
	for i := range legs {
		if primary != nil {
			kind := "data"
			if legs[i].Bad {
				kind = "broken"
			}
			p.Lines = append(p.Lines, join(primary, &legs[i], kind))
		}
	}
	p.Boxes = append(append(append(p.Boxes, hosts...), cntlrs...), legs...)
	p.Words = words(da, len(hosts), primary)
	return p
}

// pathLines are a host's paths, one per exporter state of its exporters.
func pathLines(hosts, cntlrs []box, at map[uint32]int, exps []*apiv1.ExpMsg) (lines []line) {
	for h, e := range exps {
		for _, es := range e.EsMsgList {
			i, ok := at[es.CntlrIdx]
			if !ok {
				continue
			}
			c := &cntlrs[i]
			kind := "non-optimized"
			switch {
			case es.Error || c.Bad:
				kind = "broken"
			case c.Kind == "primary":
				kind = "optimized"
			}
			lines = append(lines, join(&hosts[h], c, kind))
		}
	}
	return lines
}

func hostBoxes(exps []*apiv1.ExpMsg) (boxes []box) {
	for _, e := range exps {
		note := "exporter " + e.ExpName
		if e.SnapName != "" {
			note += ", snapshot " + e.SnapName
		}
		boxes = append(boxes, box{Kind: "host", Name: vda.Shorten(short(e.InitiatorNqn), 24), Note: vda.Shorten(note, 30)})
	}
	return boxes
}

// cntlrBoxes also returns where each controller's box is, by its index.
func cntlrBoxes(da *apiv1.DaMsg) (boxes []box, at map[uint32]int) {
	at = map[uint32]int{}
	for _, c := range da.CntlrMsgList {
		b := box{Kind: "secondary", Name: c.CnName, Note: "secondary, non-optimized", Bad: c.Error}
		switch {
		case c.Primary && c.Error:
			b.Kind, b.Note = "primary", "primary, in error"
		case c.Primary:
			b.Kind, b.Note = "primary", "primary, optimized"
		case c.Error:
			b.Note = "secondary, in error"
		}
		at[c.CntlrIdx] = len(boxes)
		boxes = append(boxes, b)
	}
	return boxes, at
}

func legBoxes(da *apiv1.DaMsg) (boxes []box) {
	for _, g := range da.GrpMsgList {
		for _, vd := range g.VdMsgList {
			group := fmt.Sprintf("group %d, column %d", g.GrpIdx, vd.VdIdx)
			note := vd.PdName
			if vd.Role != "" {
				note += ", " + vd.Role
			}
			boxes = append(boxes, box{Kind: "leg", Name: vd.DnName, Note: vda.Shorten(note, 30), Group: group,
				Bad: vd.Error || vd.Role == "stale"})
		}
	}
	return boxes
}

func words(da *apiv1.DaMsg, hosts int, primary *box) string {
	where := "without a primary"
	if primary != nil {
		where = "with its primary on " + primary.Name
	}
	return fmt.Sprintf("%s reach array %s through %s, %s. The tables below have all of it.", count(hosts, "exporter"), da.DaName,
		count(len(da.CntlrMsgList), "controller"), where)
}
