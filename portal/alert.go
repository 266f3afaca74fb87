package portal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// beatAfter is how old the last beat of the last monitor may be until none runs: monitors beat
// every few seconds. Their clocks may differ from this one by some.
const beatAfter = time.Minute

// ListAlert tells what is wrong now, the gravest first: what the monitors have found, which is
// the same at all portals; and whether there is a monitor.
func (s *Server) ListAlert(ctx context.Context, _ *apiv1.ListAlertRequest) (*apiv1.ListAlertReply, error) {
	var all []vda.Alert
	err := s.view(ctx, func(tx store.Reader) (err error) {
		all, err = raised(tx, time.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.ListAlertReply{AlertMsgList: alertMsgs(all)}, nil
}

// raised are the alerts, the gravest first.
func raised(tx store.Reader, now time.Time) ([]vda.Alert, error) {
	all, err := tx.Alerts()
	if err != nil {
		return nil, err
	}
	monitors, err := tx.Monitors()
	if err != nil {
		return nil, err
	}
	last, err := tx.LastBeat()
	if err != nil {
		return nil, err
	}
	if len(monitors) == 0 || now.Sub(last) > beatAfter {
		none := vda.Alert{Code: vda.AlertNoMonitor, Text: "no monitor has ever run: nobody notices when a node is down; start vda_monitor"}
		if len(monitors) > 0 {
			none.Since = last
			none.Text = fmt.Sprintf("no monitor has told the database that it runs since %s: nobody notices when a node is down, and the other "+
				"alerts are as of then; start vda_monitor", last.UTC().Format(time.RFC3339))
		}
		all = append(all, none)
	}
	slices.SortStableFunc(all, func(a, b vda.Alert) int { return cmp.Compare(a.Code.Rank(), b.Code.Rank()) })
	return all, nil
}

func alertMsgs(all []vda.Alert) (msgs []*apiv1.AlertMsg) {
	for _, a := range all {
		msgs = append(msgs, &apiv1.AlertMsg{Code: string(a.Code), Severity: string(a.Code.Severity()), Object: a.Object, Name: a.Name,
			Text: a.Text, Since: rfc3339(a.Since)})
	}
	return msgs
}
