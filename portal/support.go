package portal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/support"
)

const (
	// supportParallel is how many programs are asked for their part of a bundle at once, each
	// of which may have some MiB to say.
	supportParallel = 8
	// supportTime bounds what one program takes, and what the rows take.
	supportTime = 30 * time.Second
	// supportChunk bounds a message of a bundle, in bytes.
	supportChunk = 256 << 10
	// supportEvents is how many of the last events a bundle has.
	supportEvents = 5000
)

// DumpSupport gathers a support bundle: what the database says, what users see, and what each
// program that answers says of itself. What cannot be had is a file that says why. Secrets are out
// of all of it: columns that hold some, and what looks like one.
func (s *Server) DumpSupport(_ *apiv1.DumpSupportRequest, stream grpc.ServerStreamingServer[apiv1.DumpSupportReply]) error {
	b := &bundle{s: s, stream: stream}
	ctx := stream.Context()
	b.add("portal", func(ctx context.Context) []support.File { return rpc.OwnSupport(ctx, s.registry) })
	b.seen(ctx)
	b.rows(ctx)
	var c census
	if err := s.view(ctx, c.read); err != nil {
		b.send("nodes.error", []byte("monitors and nodes are not asked, as it is not known which there are: "+reason.Of(err)+"\n"))
		return b.end()
	}
	var all errgroup.Group
	all.SetLimit(supportParallel)
	ask := func(dir string, at vda.At) {
		all.Go(func() error {
			b.program(ctx, dir+"/"+at.Name, at)
			return nil
		})
	}
	for _, name := range c.monitors {
		ask(compMonitor, vda.MonitorAt(name))
	}
	for i := range c.dns {
		ask("dn", c.dns[i].At(vda.DiskNode))
	}
	for i := range c.cns {
		ask("cn", c.cns[i].At(vda.ControllerNode))
	}
	_ = all.Wait() // what is wrong is in the bundle
	return b.end()
}

// bundle is one that is on its way. Safe for concurrent use.
type bundle struct {
	s      *Server
	stream grpc.ServerStreamingServer[apiv1.DumpSupportReply]
	mu     sync.Mutex
	err    error // the client is gone
}

// send sends a file, of which the chunks stand behind each other.
func (b *bundle) send(name string, text []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for first := true; b.err == nil && (first || len(text) > 0); first = false {
		n := min(len(text), supportChunk)
		b.err = b.stream.Send(&apiv1.DumpSupportReply{Name: name, Content: text[:n]})
		text = text[n:]
	}
}

func (b *bundle) end() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return status.Error(codes.Unavailable, "the client does not take the bundle")
	}
	return nil
}

// add adds files of this process.
func (b *bundle) add(dir string, files func(context.Context) []support.File) {
	for _, f := range files(b.stream.Context()) {
		b.send(dir+"/"+f.Name, f.Content)
	}
}

// program adds what a monitor or an agent says of itself.
func (b *bundle) program(ctx context.Context, dir string, at vda.At) {
	ctx, cancel := context.WithTimeout(ctx, supportTime)
	defer cancel()
	reply, err := b.ask(ctx, at)
	switch {
	case status.Code(err) == codes.Unimplemented:
		err = errors.New("it is too old to say anything for a bundle")
	case status.Code(err) == codes.DeadlineExceeded:
		err = errors.New("it does not answer")
	}
	if err != nil {
		b.send(dir+".error", support.Scrub([]byte(reason.Of(err)+"\n")))
		return
	}
	for _, f := range reply.FileList {
		b.send(dir+"/"+f.Name, support.Scrub(f.Content)) // a program of another version has scrubbed it by other rules
	}
}

func (b *bundle) ask(ctx context.Context, at vda.At) (*apiv1.SupportReply, error) {
	if b.s.cfg.Programs == nil {
		return nil, errors.New("this portal asks nobody")
	}
	p, err := b.s.cfg.Programs.Program(at)
	if err != nil {
		return nil, err
	}
	return p.Support(ctx, &apiv1.SupportRequest{})
}

// seen adds what users are told.
func (b *bundle) seen(ctx context.Context) {
	for _, one := range []struct {
		name string
		ask  func() (proto.Message, error)
	}{
		{"status.json", func() (proto.Message, error) { return b.s.GetStatus(ctx, &apiv1.GetStatusRequest{}) }},
		{"version.json", func() (proto.Message, error) { return b.s.ListVersion(ctx, &apiv1.ListVersionRequest{}) }},
		{"alert.json", func() (proto.Message, error) { return b.s.ListAlert(ctx, &apiv1.ListAlertRequest{}) }},
	} {
		reply, err := one.ask()
		if err != nil {
			b.send(one.name+".error", []byte(reason.Of(err)+"\n"))
			continue
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true, Multiline: true, Indent: " "}.Marshal(reply)
		if err != nil {
			b.send(one.name+".error", []byte(reason.Of(err)+"\n"))
			continue
		}
		b.send(one.name, support.Scrub(append(text, '\n')))
	}
}

// rows adds the tables of the database, a line of JSON per row.
func (b *bundle) rows(ctx context.Context) {
	dump, is := b.s.cfg.Store.(store.Dumper)
	if !is {
		b.send("rows.error", []byte("this database does not show its rows\n"))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, supportTime)
	defer cancel()
	var table string
	var text []byte
	var events [][]byte // the last ones
	flush := func() {
		if len(events) > 0 {
			text, events = bytes.Join(events, nil), nil
		}
		if table != "" && len(text) > 0 {
			b.send("rows/"+table+".jsonl", text)
		}
		text = nil
	}
	err := dump.Rows(ctx, func(t string, columns []string, values []byte) error {
		if t != table {
			flush()
			table = t
		}
		line, err := rowLine(t, columns, values)
		switch {
		case err != nil:
			return err
		case t == "vda_event":
			if events = append(events, line); len(events) > supportEvents {
				events = slices.Delete(events, 0, 1)
			}
		default:
			if text = append(text, line...); len(text) >= supportChunk {
				flush()
			}
		}
		return nil
	})
	flush()
	if err != nil {
		b.send("rows.error", []byte(reason.Of(err)+"\n"))
	}
}

// rowLine is a row as a JSON object without secrets.
func rowLine(table string, columns []string, values []byte) ([]byte, error) {
	var cells []json.RawMessage
	if err := json.Unmarshal(values, &cells); err != nil || len(cells) != len(columns) {
		return nil, fmt.Errorf("table %s: a row does not have its %d columns", table, len(columns))
	}
	secretLabel := false
	if i := slices.Index(columns, "label_key"); table == "vda_label" && i >= 0 {
		var key string
		secretLabel = json.Unmarshal(cells[i], &key) == nil && support.Secret(key)
	}
	line := []byte{'{'}
	for i, c := range columns {
		if support.SecretColumn(table, c) || secretLabel && c == "label_value" {
			continue
		}
		if len(line) > 1 {
			line = append(line, ',')
		}
		cell := cells[i]
		var text string
		if json.Unmarshal(cell, &text) == nil && len(cell) > 0 && cell[0] == '"' {
			clean, err := json.Marshal(string(support.Scrub([]byte(text))))
			if err != nil {
				return nil, err
			}
			cell = clean
		}
		line = fmt.Appendf(line, "%q:%s", c, cell)
	}
	return append(line, '}', '\n'), nil
}
