package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// shortTime is a time to the second.
func shortTime(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func eventObject(e *apiv1.EventMsg) string {
	if e.Object == "" {
		return "-"
	}
	return e.Object + " " + e.Name
}

// eventText is what happened, with who did it and how long it took.
func eventText(e *apiv1.EventMsg) string {
	text := e.Text
	if e.Method != "" {
		who := e.User
		if who == "" {
			who = "a user"
		}
		if text != "" {
			text = ": " + text
		}
		text = fmt.Sprintf("%s by %s at %s%s", e.Method, who, e.Peer, text)
	}
	if e.TookMs > 0 {
		text += fmt.Sprintf(" (%v)", time.Duration(e.TookMs)*time.Millisecond)
	}
	return text
}

// watch prints events as they happen.
func (s *session) watch(ctx context.Context, c *client.Client, req *apiv1.WatchEventRequest) error {
	for e, err := range c.Watch(ctx, req) {
		switch {
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			return nil // as the user wants
		case err != nil:
			return callFailure(err)
		case s.human || s.output.forPeople():
			fmt.Fprintf(s.stdout, "%s  %-7s  %-16s  %s  %s\n", shortTime(e.Time), e.Severity, e.Kind, eventObject(e), eventText(e))
		default:
			if s.output.format == "yaml" {
				fmt.Fprintln(s.stdout, "---")
			}
			if err := s.show(e); err != nil {
				return err
			}
		}
	}
	return nil
}
