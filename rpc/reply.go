package rpc

import (
	"container/list"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	_ "google.golang.org/grpc/encoding/proto" // registers the codec that codec is over
)

// Replies that clients do not read. gRPC takes a reply from its handler whether or
// not the client lets it be sent, and counts the call as ended: a client that asks
// and reads nothing would have the program hold replies without end. So a reply
// counts from when it is encoded until it has been written to its connection.
// Connections are given up, rather than other clients' replies: one whose client
// does not take a reply in time, and where replies take more than they may, the
// one with the oldest reply of the address that has most.

// minReply is the least that a reply counts, in bytes: its buffer, and what gRPC
// keeps of its call. gRPC tells when it is done with a buffer above some size only,
// which is lower.
const minReply = 2 << 10

// replies are those that are encoded and not written yet. Safe for concurrent use.
type replies struct {
	limit int64         // bytes
	send  time.Duration // that a client may take for one
	// gaveUp is told of a connection that is about to be closed; slow says that a
	// reply took too long.
	gaveUp func(slow bool)

	mu    sync.Mutex
	used  int64
	peak  int64            // highest used
	peers map[string]int64 // bytes by address
	byAge list.List        // of *outgoing, the oldest first
}

// outgoing is one reply. It is the pool of its buffer, to which gRPC gives that
// back when it has been written.
type outgoing struct {
	of    *replies
	conn  *guardedConn
	peer  string // address
	bytes int64
	timer *time.Timer
	at    *list.Element // nil when it does not count any more; of.mu guards it
}

func newReplies(limit int64, send time.Duration, gaveUp func(slow bool)) *replies {
	return &replies{limit: limit, send: send, gaveUp: gaveUp, peers: map[string]int64{}}
}

// keep counts a reply to a call until its buffer is put back, or its connection is
// closed.
func (r *replies) keep(c *call, bytes int64) *outgoing {
	o := &outgoing{of: r, conn: c.conn, peer: c.peer, bytes: bytes}
	r.mu.Lock()
	o.timer = time.AfterFunc(r.send, o.late)
	o.at = r.byAge.PushBack(o)
	r.used += bytes
	r.peers[o.peer] += bytes
	var victims []*guardedConn
	for r.used > r.limit && r.byAge.Len() > 1 {
		v := r.oldest()
		victims = append(victims, v)
		r.drop(v)
	}
	r.peak = max(r.peak, r.used)
	r.mu.Unlock()
	for _, v := range victims {
		r.gaveUp(false)
		_ = v.Close()
	}
	return o
}

// oldest returns the connection to give up; the caller holds the lock.
func (r *replies) oldest() *guardedConn {
	most := ""
	for peer, bytes := range r.peers {
		if most == "" || bytes > r.peers[most] {
			most = peer
		}
	}
	for e := r.byAge.Front(); ; e = e.Next() {
		if o := e.Value.(*outgoing); o.peer == most {
			return o.conn
		}
	}
}

// drop has the replies on a connection count no more; the caller holds the lock.
func (r *replies) drop(c *guardedConn) {
	for e := r.byAge.Front(); e != nil; {
		o := e.Value.(*outgoing)
		e = e.Next()
		if o.conn == c {
			o.end()
		}
	}
}

// closed is told of each connection that is closed: what gRPC held for it goes.
func (r *replies) closed(c *guardedConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(c)
}

// bytes is what replies take now, and the most they took at once.
func (r *replies) bytes() (used, peak int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used, r.peak
}

// end has a reply count no more; the caller holds the lock.
func (o *outgoing) end() {
	if o.at == nil {
		return
	}
	o.timer.Stop()
	o.of.byAge.Remove(o.at)
	o.at = nil
	o.of.used -= o.bytes
	if o.of.peers[o.peer] -= o.bytes; o.of.peers[o.peer] == 0 {
		delete(o.of.peers, o.peer)
	}
}

// late gives up the connection of a reply that its client has not taken in time.
func (o *outgoing) late() {
	o.of.mu.Lock()
	waits := o.at != nil
	o.of.mu.Unlock()
	if waits {
		o.of.gaveUp(true)
		_ = o.conn.Close()
	}
}

// Get implements mem.BufferPool.
func (o *outgoing) Get(length int) *[]byte { return mem.DefaultBufferPool().Get(length) }

// Put implements mem.BufferPool: the reply has been written.
func (o *outgoing) Put(*[]byte) {
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	o.end()
}

// reply is a message that counts, on its way from a handler to codec.
type reply struct {
	proto.Message
	call *call
}

// counted returns what a handler has answered in a form that counts.
func (c *call) counted(msg any) any {
	if m, ok := msg.(proto.Message); ok && c.conn != nil {
		return &reply{m, c}
	}
	return msg
}

// codec encodes replies. Requests pass it by, but for those of streams.
type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*reply)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	data, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, max(proto.Size(r.Message), minReply)), r.Message)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(&data, r.call.g.replies.keep(r.call, int64(cap(data))))}, nil
}

// countStream has what a stream's handler sends count.
func (g *guard) countStream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	c, ok := s.Context().Value(callKey{}).(*call)
	if !ok {
		return handle(srv, s)
	}
	return handle(srv, &countedStream{s, c})
}

type countedStream struct {
	grpc.ServerStream
	call *call
}

// SendMsg implements grpc.ServerStream.
func (s *countedStream) SendMsg(m any) error { return s.ServerStream.SendMsg(s.call.counted(m)) }

// serverCodec is codec over that which gRPC uses by itself.
func serverCodec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }
