package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/program"
)

// section prints rows of cells under a heading, nothing when there are none.
func section(w io.Writer, heading string, rows [][]any) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", heading)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			before := "\t"
			if i == 0 {
				before = "  "
			}
			fmt.Fprint(t, before, cell)
		}
		fmt.Fprintln(t)
	}
	t.Flush() // as far as w takes it
}

// statusText prints a status: the answer first, then what it is made of.
func statusText(w io.Writer, reply proto.Message) {
	m := reply.(*apiv1.GetStatusReply).GetStatusMsg()
	if m.GetWell() {
		fmt.Fprintln(w, "The cluster is well.")
	} else {
		fmt.Fprintf(w, "The cluster is not well: %s.\n", illness(m))
	}
	if m.GetPlain() {
		fmt.Fprintln(w, "It is plain: anyone who reaches a port can give orders, and all is in the clear; see docs/security.md.")
	}
	for _, p := range m.GetProblemList() {
		fmt.Fprintln(w, "  -", p)
	}
	if more := int(m.GetProblemCnt()) - len(m.GetProblemList()); more > 0 {
		fmt.Fprintf(w, "  - and %d more\n", more)
	}
	var rows [][]any
	for _, a := range m.GetAlertMsgList() {
		rows = append(rows, []any{shortTime(cmp.Or(a.Since, "-")), a.Severity, a.Code, strings.TrimSpace(a.Object + " " + a.Name),
			oneLine(a.Text)})
	}
	if rows != nil {
		rows = append([][]any{{"SINCE", "SEVERITY", "ALERT", "OBJECT", "WHAT"}}, rows...)
	}
	section(w, "Alerts", rows)
	rows = [][]any{{"KIND", "UP", "DOWN", "OFFLINE", "DRAINING"}}
	for _, n := range m.GetNodeCountMsgList() {
		rows = append(rows, []any{n.Kind, n.Up, n.Total - n.Up, n.Offline, n.Drain})
	}
	section(w, "Nodes", rows)
	rows = [][]any{{"LOCATION", "DNS", "CNS", "PDS", "SIZE", "FREE", "USED"}}
	var size, free, kept uint64
	for _, l := range m.GetCapacityMsgList() {
		if l.DnCnt == 0 {
			continue
		}
		rows = append(rows, []any{l.Location, l.DnCnt, l.CnCnt, l.PdCnt, short(l.TotalSize), short(l.FreeSize), share(l.TotalSize, l.FreeSize)})
		size, free, kept = size+l.TotalSize, free+l.FreeSize, kept+l.ReclaimableSize
	}
	rows = append(rows, []any{"all", "", "", "", short(size), short(free), share(size, free)})
	section(w, "Capacity", rows)
	if kept > 0 {
		fmt.Fprintf(w, "\n  %s more become free when deleted arrays go that are kept: da list --trash\n", short(kept))
	}
	rows = nil
	for _, a := range m.GetDaCountMsgList() {
		rows = append(rows, []any{a.State, a.DaCnt, short(a.DaSize)})
	}
	if rows != nil {
		rows = append([][]any{{"STATE", "ARRAYS", "SIZE"}}, rows...)
	}
	section(w, "Arrays", rows)
	rows = nil
	for _, c := range m.GetCnLoadMsgList() {
		rows = append(rows, []any{c.CnName, c.PrimaryCnt, c.CntlrCnt})
	}
	if rows != nil {
		rows = append([][]any{{"CN", "PRIMARIES", "CONTROLLERS"}}, rows...)
	}
	section(w, "Controller nodes", rows)
	rows = [][]any{{"COMPONENT", "COUNT", "VERSION"}}
	for _, v := range m.GetVersionCountMsgList() {
		version := v.Version
		if version == "" {
			version = "not known"
		}
		rows = append(rows, []any{component(v.Component), v.Cnt, version})
	}
	section(w, "Versions", rows)
}

// statusIll: a cluster that is not well ends the command with status 1.
func statusIll(reply proto.Message) *failure {
	m := reply.(*apiv1.GetStatusReply).GetStatusMsg()
	if m.GetWell() {
		return nil
	}
	return &failure{exit: exitRefused, shown: true, info: &apiv1.ReplyInfo{ReplyCode: int32(apiv1.CodeSuccess),
		ReplyMsg: "the cluster is not well: " + illness(m)}}
}

// illness counts what is wrong.
func illness(m *apiv1.StatusMsg) string {
	text := count(m.GetProblemCnt(), "problem")
	switch n := len(m.GetAlertMsgList()); {
	case n == 0:
		return text
	case m.GetProblemCnt() == 0:
		return count(uint32(n), "alert")
	default:
		return text + ", " + count(uint32(n), "alert")
	}
}

// versionText prints versions, this program's own first.
func versionText(w io.Writer, reply proto.Message) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "COMPONENT\tNAME\tVERSION")
	fmt.Fprintf(t, "client\t-\t%s\n", program.Version())
	for _, v := range reply.(*apiv1.ListVersionReply).GetVersionMsgList() {
		name, version := v.Name, v.Version
		if name == "" {
			name = "-"
		}
		if version == "" {
			version = "not known: " + v.Problem
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", component(v.Component), name, version)
	}
	t.Flush() // as far as w takes it
}

// component is a kind of program as people say it: "dn agent", "data plane".
func component(name string) string { return strings.ReplaceAll(name, "_", " ") }

// count is a number of things in words.
func count(n uint32, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// short is a number of bytes with three digits at most, for people who compare sizes.
func short(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	switch {
	case i == 0 || v >= 100 || v == float64(int(v)):
		return fmt.Sprintf("%.0f %s", v, units[i])
	case v >= 10:
		return fmt.Sprintf("%.1f %s", v, units[i])
	}
	return fmt.Sprintf("%.2f %s", v, units[i])
}

// share is how much of a size is used, in percent.
func share(size, free uint64) string {
	if size == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(size-min(free, size))/float64(size))
}
