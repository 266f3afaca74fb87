package jsonrpc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// conn is one client.
type conn struct {
	srv     *Server
	nc      net.Conn
	pending chan struct{} // slow calls under way
	wg      sync.WaitGroup

	use use

	mu    sync.Mutex // serializes replies
	ready []byte     // replies that are not sent yet
	since time.Time  // when the first of these was ready
}

// Replies to requests that came together go out together: when the next request has
// not come yet, or when the call behind them ends after maxWait, or they are maxReady bytes.
const (
	maxWait  = 2 * time.Millisecond
	maxReady = 64 << 10
)

// call is a decoded request.
type call struct {
	id     json.RawMessage // nil: a notification
	method string
	params json.RawMessage // nil: none
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, pending: make(chan struct{}, s.cfg.MaxPending)}
	c.use.touch()
	return c
}

// stopReading makes serve end once its calls have.
func (c *conn) stopReading() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// serve reads requests until the client leaves or sends what is not JSON. Where
// the next request would begin after that nobody knows: the client is told, and
// the connection closed.
func (c *conn) serve() {
	err := c.read()
	c.flush()
	broken := !errors.Is(err, io.EOF) && c.srv.ctx.Err() == nil && !c.use.over.Load()
	if broken {
		c.srv.cfg.Log.Warn("JSON-RPC connection closed", "err", err)
		if refused := unreadable(err); refused != nil {
			c.write(append(encode(nil, nil, refused), '\n'))
		}
		_ = c.nc.Close()
	}
	c.wg.Wait()
	_ = c.nc.Close()
}

// errUTF8 and tooLong end a connection like malformed JSON does.
var errUTF8 = errors.New("the request is not UTF-8")

// tooLong is of a request above that many bytes.
type tooLong int

func (n tooLong) Error() string {
	return fmt.Sprintf("the request is too long: it has more than %d bytes", int(n))
}

// unreadable is the last reply on a connection that read has ended with err;
// nil when the client has gone.
func unreadable(err error) *Error {
	const closed = "; the connection is closed, for where the next request begins is not known"
	var syntax *jsontext.SyntacticError
	var long tooLong
	switch {
	case errors.Is(err, errUTF8):
		return &Error{Code: CodeParseError, Message: "Parse error", Data: errUTF8.Error() + closed}
	case errors.As(err, &long):
		return &Error{Code: CodeInvalidRequest, Message: "Invalid request", Data: long.Error() + closed}
	case errors.As(err, &syntax), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Code: CodeParseError, Message: "Parse error", Data: "the request is not JSON" + closed}
	}
	return nil
}

func (c *conn) read() error {
	src := &budget{conn: c, r: bufio.NewReaderSize(c.nc, readAhead), max: c.srv.cfg.MaxRequest}
	dec := jsontext.NewDecoder(src, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) // looked for below
	for {
		src.left = src.max
		v, err := dec.ReadValue()
		if err != nil {
			return err
		}
		c.use.whole()
		if !utf8.Valid(v) {
			return errUTF8
		}
		raw := json.RawMessage(v.Clone()) // slow methods go on with it
		if raw[0] == '[' {
			c.batch(raw)
			continue
		}
		one, bad := parse(raw)
		c.start(one, bad, func(reply []byte, slow bool) {
			switch {
			case reply == nil:
			case slow:
				c.write(append(reply, '\n'))
			default:
				c.add(append(reply, '\n'))
			}
		})
	}
}

// start carries out one call and hands its encoded reply, or nil, to answer:
// before it returns, or later when the method is slow.
func (c *conn) start(one call, bad *Error, answer func(reply []byte, slow bool)) {
	c.use.begin()
	done := func(reply []byte, slow bool) {
		answer(reply, slow)
		c.use.end()
	}
	if bad != nil {
		done(encode(one.id, nil, bad), false)
		return
	}
	m, refused := c.srv.cfg.Lookup(one.method)
	if refused != nil {
		done(encode(one.id, nil, refused), false)
		return
	}
	if !m.Slow {
		done(c.run(m, one), false)
		return
	}
	select {
	case c.pending <- struct{}{}:
	default:
		c.flush() // before it waits for others
		c.pending <- struct{}{}
	}
	c.wg.Go(func() {
		defer func() { <-c.pending }()
		done(c.run(m, one), true)
	})
}

func (c *conn) run(m Method, one call) []byte {
	result, err := c.contained(m, one)
	if err == nil && one.id == nil {
		return nil
	}
	if err != nil {
		return encode(one.id, nil, AsError(err))
	}
	return encode(one.id, result, nil)
}

// contained keeps a panic of a method from ending the process.
func (c *conn) contained(m Method, one call) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.cfg.Log.Error("JSON-RPC method panicked", "method", one.method, "params", excerpt(one.params), "panic", p,
				"stack", string(debug.Stack()))
			err = &Error{Code: CodeInternalError, Message: "Internal error",
				Data: fmt.Sprintf("%s failed unexpectedly; the log of the data plane says where", one.method)}
		}
	}()
	return m.Call(c.srv.ctx, one.params)
}

// maxBatch bounds the calls of a batch, so that a short request cannot ask for
// a reply a hundred times as long.
const maxBatch = 4096

// batch answers an array of requests with an array of replies, in order.
func (c *conn) batch(raw json.RawMessage) {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil || len(items) == 0 || len(items) > maxBatch {
		c.write(append(encode(nil, nil, invalidRequest()), '\n'))
		return
	}
	replies := make([][]byte, len(items))
	var left sync.WaitGroup
	for i, item := range items {
		one, bad := parse(item)
		left.Add(1)
		c.start(one, bad, func(reply []byte, _ bool) {
			replies[i] = reply
			left.Done()
		})
	}
	c.wg.Go(func() {
		left.Wait()
		c.write(joinReplies(replies))
	})
}

func joinReplies(replies [][]byte) []byte {
	var out []byte
	for _, r := range replies {
		if r == nil {
			continue
		}
		if out == nil {
			out = append(out, '[')
		} else {
			out = append(out, ',')
		}
		out = append(out, r...)
	}
	if out == nil {
		return nil
	}
	return append(out, ']', '\n')
}

// add has a reply sent when the next request has not come yet, or soon.
func (c *conn) add(reply []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.ready) == 0 {
		c.since = now
	}
	if len(c.ready)+len(reply) >= maxReady || now.Sub(c.since) >= maxWait {
		c.send(reply)
	} else {
		c.ready = append(c.ready, reply...)
	}
}

// write sends one reply, behind those that are ready.
func (c *conn) write(reply []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(reply)
}

// flush sends the replies that are ready.
func (c *conn) flush() { c.write(nil) }

// send sends what is ready and one more; mu is held. A client that does not take it loses its
// connection.
func (c *conn) send(reply []byte) {
	if len(c.ready) > 0 {
		reply = append(c.ready, reply...)
		c.ready = nil
	}
	if len(reply) == 0 {
		return
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteTimeout))
	if _, err := c.nc.Write(reply); err != nil {
		_ = c.nc.Close() // the reader ends with it
	}
}

// parse checks one request object. With an error, id is that of the reply.
func parse(raw json.RawMessage) (call, *Error) {
	var one call
	members, err := object(raw)
	if err != nil {
		return call{}, invalidRequest()
	}
	for _, m := range members {
		switch value := m.value; m.name {
		case "jsonrpc":
			if s, err := decodeString(value); err != nil || s != "2.0" {
				return call{}, invalidRequest()
			}
		case "method":
			s, err := decodeString(value)
			if err != nil {
				return call{}, invalidRequest()
			}
			one.method = s
		case "id":
			switch value[0] {
			case '{', '[', 't', 'f':
				return call{}, invalidRequest()
			case 'n':
			default:
				one.id = value
			}
		case "params":
			if value[0] != 'n' {
				one.params = value
			}
		default:
			return call{}, invalidRequest()
		}
	}
	if !slices.ContainsFunc(members, func(m entry) bool { return m.name == "method" }) {
		return call{}, invalidRequest()
	}
	if one.params != nil && one.params[0] != '{' && one.params[0] != '[' {
		return one, invalidRequest()
	}
	return one, nil
}

// encode is one reply; id stays as the client wrote it, nil for null. Nothing is put into JSON
// twice: lists of large nodes are megabytes.
func encode(id json.RawMessage, result any, failed *Error) []byte {
	if id == nil {
		id = json.RawMessage("null")
	}
	head := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,`, id)
	if failed == nil {
		body, err := marshal(result)
		if err == nil {
			return slices.Concat(head, []byte(`"result":`), body, []byte{'}'})
		}
		failed = &Error{Code: CodeInternalError, Message: "Internal error", Data: "result does not encode: " + err.Error()}
	}
	body, err := marshal(failed)
	if err != nil {
		return nil
	}
	return slices.Concat(head, []byte(`"error":`), body, []byte{'}'})
}

// marshal is encoding/json.Marshal without its escaping of <, > and &.
func marshal(v any) ([]byte, error) {
	return jsonv2.Marshal(v, jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false))
}

// budget bounds the bytes read for one request.
type budget struct {
	conn      *conn
	r         *bufio.Reader
	max, left int
}

// readAhead is what is read at once of requests that come together.
const readAhead = 32 << 10

// Read sends what is ready before it may wait.
func (b *budget) Read(p []byte) (int, error) {
	if b.r.Buffered() == 0 {
		b.conn.flush()
	}
	if b.left <= 0 {
		return 0, tooLong(b.max)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	if n > 0 {
		b.conn.use.receive()
	}
	return n, err
}
