package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// clearScreen moves to the upper left and clears what is below (ECMA-48, CUP and ED).
const clearScreen = "\x1b[H\x1b[J"

// live reports that a command that can goes on showing what is: for a person at a terminal who
// has not asked for one picture.
func (s *session) live() bool {
	return !s.once && (s.human || s.output.forPeople()) && s.screen(s.stdout)
}

// watchTop shows one picture after the other until the user ends it. The portal measures for as
// long as each is shown.
func (s *session) watchTop(ctx context.Context, c *client.Client, req *apiv1.GetTopRequest) error {
	for {
		reply, err := c.GetTop(ctx, req)
		switch {
		case ctx.Err() != nil:
			return nil // as the user wants
		case err != nil:
			return callFailure(err)
		}
		if _, err := fmt.Fprintf(s.stdout, "%s%s, measured for %v; ctrl-c ends this\n", clearScreen,
			now().UTC().Format("2006-01-02T15:04:05Z"), interval(req)); err != nil {
			return nil // nobody looks any more
		}
		topText(s.stdout, reply)
		for _, why := range reply.WarningList {
			fmt.Fprintln(s.stdout, "\nwarning:", why)
		}
	}
}

// interval is how long the portal measures for.
func interval(req *apiv1.GetTopRequest) time.Duration {
	if req.IntervalMs == 0 {
		return time.Second
	}
	return time.Duration(req.IntervalMs) * time.Millisecond
}

// topText prints a picture: nodes, arrays and disks, those with the most I/O first.
func topText(w io.Writer, reply proto.Message) {
	m := reply.(*apiv1.GetTopReply)
	topRows(w, "Nodes", "", m.NodeTopMsgList, uint32(len(m.NodeTopMsgList)))
	topRows(w, "Arrays", "PRIMARY", m.DaTopMsgList, m.DaCnt)
	topRows(w, "Disks", "DN", m.PdTopMsgList, m.PdCnt)
}

// topRows prints one list, of so many that there are.
func topRows(w io.Writer, heading, where string, list []*apiv1.TopMsg, of uint32) {
	rows := [][]any{{"NAME", "READS/S", "WRITES/S", "READ", "WRITTEN", "READ-LATENCY", "WRITE-LATENCY", "ERRORS/S"}}
	switch where {
	case "":
		rows[0] = append([]any{"KIND"}, rows[0]...)
	case "PRIMARY":
		rows[0] = append(rows[0], "THROTTLED", where)
	default:
		rows[0] = append(rows[0], where)
	}
	for _, t := range list {
		row := []any{t.Name, t.ReadsPerSec, t.WritesPerSec, short(t.ReadBytesPerSec) + "/s", short(t.WrittenBytesPerSec) + "/s",
			latency(t.ReadUsec), latency(t.WriteUsec), t.ErrorsPerSec}
		switch where {
		case "":
			row = append([]any{t.Kind}, row...)
		case "PRIMARY":
			row = append(row, fmt.Sprintf("%d%%", t.ThrottledPercent), t.NodeName)
		default:
			row = append(row, t.NodeName)
		}
		rows = append(rows, row)
	}
	if int(of) > len(list) {
		heading = fmt.Sprintf("%s (%d of %d; --limit shows more)", heading, len(list), of)
	}
	if len(list) > 0 {
		section(w, heading, rows)
	}
}

// latency is how long one request took.
func latency(usec uint64) string {
	switch {
	case usec == 0:
		return "-"
	case usec < 1000:
		return fmt.Sprintf("%d us", usec)
	case usec < 10_000:
		return fmt.Sprintf("%.1f ms", float64(usec)/1000)
	}
	return fmt.Sprintf("%d ms", usec/1000)
}
