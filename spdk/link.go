package spdk

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// link is one connection. It is used until its first failure.
type link struct {
	conn    *net.UnixConn
	cfg     Config
	writing chan struct{} // held by the goroutine that writes
	done    chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	err     error // why it failed; nil while alive
	nextID  uint64
	waiting map[uint64]chan reply
}

type reply struct {
	result jsontext.Value
	err    *RPCError
	lost   error
}

// request and response are the wire objects (JSON-RPC 2.0, sections 4 and 5).
type request struct {
	JSONRPC string `json:"jsonrpc"`
	ID      uint64 `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
}

type response struct {
	ID     *uint64        `json:"id"`
	Result jsontext.Value `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    any    `json:"data"`
	} `json:"error"`
}

// lenient has replies read as encoding/json reads them, but that names are in the case they are
// documented in. Agents read lists of megabytes: the library is that package's successor, part of
// the standard library from Go 1.27 on, and takes a third of its time.
var lenient = jsonv2.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

func newLink(conn *net.UnixConn, cfg Config) *link {
	l := &link{conn: conn, cfg: cfg, writing: make(chan struct{}, 1), done: make(chan struct{}), waiting: map[uint64]chan reply{}}
	go l.read()
	return l
}

func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil
}

// fail ends the connection and everybody who waits on it.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	waiting := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	_ = l.conn.Close() // the failure itself is what callers are told
	for _, ch := range waiting {
		ch <- reply{lost: err}
	}
}

// sequence sends requests in one piece and waits for their replies, whose
// errors are all in lost.
func (l *link) sequence(ctx context.Context, reqs []Request) []reply {
	out := make([]reply, len(reqs))
	all := func(err error) []reply {
		for i := range out {
			out[i] = reply{lost: fmt.Errorf("%s: %w", reqs[i].Method, err)}
		}
		return out
	}
	l.mu.Lock()
	if l.err != nil {
		err := l.err
		l.mu.Unlock()
		return all(err)
	}
	ids := make([]uint64, len(reqs))
	chs := make([]chan reply, len(reqs))
	for i := range reqs {
		l.nextID++
		ids[i], chs[i] = l.nextID, make(chan reply, 1)
		l.waiting[ids[i]] = chs[i]
	}
	l.mu.Unlock()
	defer l.forget(ids)

	var buf []byte
	for i, r := range reqs {
		one, err := json.Marshal(request{JSONRPC: "2.0", ID: ids[i], Method: r.Method, Params: r.Params})
		if err != nil {
			return all(fmt.Errorf("params do not encode: %w", err))
		}
		buf = append(append(buf, one...), '\n')
	}
	if err := l.write(ctx, buf); err != nil {
		return all(err)
	}
	for i, ch := range chs {
		out[i] = l.await(ctx, ch, reqs[i].Method)
	}
	return out
}

func (l *link) await(ctx context.Context, ch chan reply, method string) reply {
	select {
	case r := <-ch:
		switch {
		case r.lost != nil:
			r.lost = fmt.Errorf("%s: %w", method, r.lost)
		case r.err != nil:
			r.err.Method = method
			r.lost = r.err
		}
		return r
	case <-ctx.Done():
		return reply{lost: fmt.Errorf("%s: no reply from %s: %w", method, l.cfg.Socket, ctx.Err())}
	}
}

func (l *link) forget(ids []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.waiting, id)
	}
}

// write sends requests whole. When the deadline cuts it short the
// connection is of no more use: the data plane would take the next request
// for the rest of this one.
func (l *link) write(ctx context.Context, buf []byte) error {
	select {
	case l.writing <- struct{}{}:
		defer func() { <-l.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	deadline, _ := ctx.Deadline()
	if err := l.conn.SetWriteDeadline(deadline); err != nil {
		return l.lose(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetWriteDeadline(time.Unix(1, 0)) })
	n, err := l.conn.Write(buf)
	stop()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && n == 0:
		return ctx.Err()
	case ctx.Err() != nil:
		l.fail(fmt.Errorf("%w: a request was cut by its deadline", ErrLost))
		return ctx.Err()
	}
	return l.lose(err)
}

func (l *link) lose(cause error) error {
	err := fmt.Errorf("%w: %w", ErrLost, cause)
	l.fail(err)
	return err
}

// read hands replies to those who wait until the connection ends.
func (l *link) read() {
	defer close(l.done)
	src := &budget{r: bufio.NewReaderSize(l.conn, readAhead), max: l.cfg.MaxReply, left: l.cfg.MaxReply}
	dec := jsontext.NewDecoder(src, lenient)
	for {
		src.left = src.max
		var r response
		if err := jsonv2.UnmarshalDecode(dec, &r); err != nil {
			var odd *jsonv2.SemanticError
			if errors.As(err, &odd) {
				l.cfg.Log.Warn("reply is not a JSON-RPC response", "socket", l.cfg.Socket, "err", err)
			}
			l.fail(fmt.Errorf("%w: %w", ErrLost, err))
			return
		}
		l.deliver(&r)
	}
}

func (l *link) deliver(r *response) {
	var out reply
	out.result = r.Result
	if r.Error != nil {
		out.err = &RPCError{Code: r.Error.Code, Message: r.Error.Message}
		out.err.Data, _ = r.Error.Data.(string)
	}
	if r.ID == nil {
		l.cfg.Log.Warn("reply without id", "socket", l.cfg.Socket, "err", out.err)
		return
	}
	l.mu.Lock()
	ch := l.waiting[*r.ID]
	delete(l.waiting, *r.ID)
	l.mu.Unlock()
	if ch == nil {
		l.cfg.Log.Debug("reply came after its caller had left", "socket", l.cfg.Socket, "id", *r.ID)
		return
	}
	ch <- out
}

// readAhead is what is read at once of replies.
const readAhead = 64 << 10

// budget bounds the bytes read for one reply.
type budget struct {
	r         io.Reader
	max, left int
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("reply is longer than %d bytes", b.max)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
