package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/reason"
)

// headerLen is the length of what precedes a gRPC message: a flag, which says
// whether it is compressed, and its length.
const headerLen = 5

// streamWindow is how much a client may send of a request before the request is
// received, in bytes. gRPC takes nothing smaller.
const streamWindow = 64 << 10

// readAtOnce bounds what a sender may have sent of a message before it is
// copied, in bytes: frames that wait take more memory than they carry.
const readAtOnce = 64 << 10

// Unread is the error of a call whose request its handler never saw: Err is a
// *TooLong, an *Undecodable, or a gRPC status.
type Unread struct{ Err error }

func (e *Unread) Error() string { return e.Err.Error() } // reason: it is an error still

// Unwrap returns why.
func (e *Unread) Unwrap() error { return e.Err }

// GRPCStatus is that of Err.
func (e *Unread) GRPCStatus() *status.Status { return status.Convert(e.Err) }

// TooLong is a message beyond Limits.Message.
type TooLong struct{ Size, Limit int }

func (e *TooLong) Error() string {
	return fmt.Sprintf("the request is %d bytes long; it must be at most %d", e.Size, e.Limit)
}

// GRPCStatus makes it RESOURCE_EXHAUSTED, as gRPC's own refusal is.
func (e *TooLong) GRPCStatus() *status.Status {
	return status.New(codes.ResourceExhausted, e.Error())
}

// Undecodable is a message that is not what its method takes.
type Undecodable struct{ Err error }

func (e *Undecodable) Error() string { return "the request cannot be decoded: " + reason.Of(e.Err) }

// Unwrap returns what is wrong with it.
func (e *Undecodable) Unwrap() error { return e.Err }

// GRPCStatus makes it INVALID_ARGUMENT.
func (e *Undecodable) GRPCStatus() *status.Status {
	return status.New(codes.InvalidArgument, e.Error())
}

// callKey finds a call in its context.
type callKey struct{}

// call is one call's part of the budget.
type call struct {
	g     *guard
	conn  *guardedConn // nil when it is not known
	peer  string       // address
	watch bool         // lasts: is of the health service or of Limits.Lasting
	first bool         // is of Limits.First

	mu      sync.Mutex
	held    int64
	small   bool  // what is held is of the part for small messages
	refused error // the call got no more and has ended
}

// grow has the call hold bytes, for a message of size bytes.
func (c *call) grow(ctx context.Context, bytes int64, size int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bytes <= c.held || c.refused != nil {
		return c.refused
	}
	if most := c.g.budget.most(); bytes > most {
		c.g.metBudget(true)
		c.refused = status.Errorf(codes.ResourceExhausted,
			"the request takes more than %d bytes of memory when decoded, which is the most that one may take", most)
		return c.refused
	}
	if c.held == 0 {
		c.small = size <= smallRequest
	}
	if c.refused = c.g.budget.take(ctx, c.peer, bytes-c.held, c.small); c.refused == nil {
		c.held = bytes
	}
	return c.refused
}

// shrink gives back all but bytes.
func (c *call) shrink(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held > bytes {
		c.g.budget.give(c.peer, c.held-bytes, c.small)
		c.held = bytes
	}
}

// estimate is what a message of size bytes takes until it is known: itself, and
// what it is usually decoded to.
func (g *guard) estimate(size int) int64 { return min(4*int64(size)+1024, g.budget.most()) }

// Registrar returns to with its unary methods' requests received within the
// limits of memory and time. Those of methods that are registered without it,
// and all of streams, may have smallRequest bytes.
func (g *guard) Registrar(to grpc.ServiceRegistrar) grpc.ServiceRegistrar { return registrar{g, to} }

type registrar struct {
	g  *guard
	to grpc.ServiceRegistrar
}

// RegisterService implements grpc.ServiceRegistrar. A request that is refused
// passes the server's interceptors as others do, with an *Unread in the place
// of what its handler would return.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = nil
	for _, m := range desc.Methods {
		handle, name := m.Handler, "/"+desc.ServiceName+"/"+m.MethodName
		m.Handler = func(srv any, ctx context.Context, _ func(any) error, intercept grpc.UnaryServerInterceptor) (reply any, err error) {
			defer r.g.recovered(name, &err)
			c, _ := ctx.Value(callKey{}).(*call)
			if c == nil {
				c = &call{g: r.g}
			}
			defer c.shrink(0)
			var refused error
			reply, err = handle(srv, ctx, func(v any) error {
				if err := c.receive(ctx, v); err != nil {
					refused = &Unread{err}
				}
				return nil
			}, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				if refused != nil {
					next = func(context.Context, any) (any, error) { return nil, refused }
				}
				if intercept == nil {
					return next(ctx, req)
				}
				return intercept(ctx, req, info, next)
			})
			if err != nil {
				return nil, err
			}
			return c.counted(reply), nil
		}
		d.Methods = append(d.Methods, m)
	}
	r.to.RegisterService(&d, impl)
}

// incoming is what gRPC's server streams can do beside grpc.ServerTransportStream. It
// lets the length of a message be seen before the sender is let send it: with
// RecvMsg, gRPC has taken the message before anybody is asked.
type incoming interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
	WriteStatus(*status.Status) error
}

// receive reads the call's message into v, which is a proto.Message.
func (c *call) receive(ctx context.Context, v any) error {
	s, ok := grpc.ServerTransportStreamFromContext(ctx).(incoming)
	if !ok {
		return status.Error(codes.Internal, "internal error: the program cannot read requests with this version of gRPC")
	}
	limit := c.g.limits.Receive
	slow := time.AfterFunc(limit, func() {
		// Reads end with the stream.
		_ = s.WriteStatus(status.Newf(codes.DeadlineExceeded, "the request did not arrive within %v", limit))
	})
	defer slow.Stop()
	var header [headerLen]byte
	if err := s.ReadMessageHeader(header[:]); err != nil {
		return ended(err)
	}
	if header[0] != 0 {
		return status.Error(codes.Unimplemented, "compressed requests are not taken; send it as it is")
	}
	size := int(binary.BigEndian.Uint32(header[1:]))
	if size > c.g.limits.Message {
		c.g.refusedMessage(size)
		return &TooLong{Size: size, Limit: c.g.limits.Message}
	}
	slow.Stop() // waiting for others is not the sender's fault
	if err := c.grow(ctx, c.g.estimate(size), size); err != nil {
		return err
	}
	slow.Reset(limit)
	data := make([]byte, 0, size)
	for len(data) < size {
		part, err := s.Read(min(readAtOnce, size-len(data)))
		if err != nil {
			return ended(err)
		}
		for _, b := range part {
			data = append(data, b.ReadOnlyData()...)
		}
		part.Free()
	}
	if m, ok := v.(proto.Message); ok {
		return c.decode(ctx, data, m)
	}
	return status.Errorf(codes.Internal, "internal error: a request cannot be decoded into %T", v)
}

// ended is the error of a stream that ended before its message did.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return status.Error(codes.Internal, "the call ended before its request was complete")
	}
	return err
}

// decode makes m of a message. What m takes counts as the call's until its
// handler returns.
func (c *call) decode(ctx context.Context, data []byte, m proto.Message) error {
	decoded := decodedSize(m, data, c.g.budget.most())
	if err := c.grow(ctx, decoded+int64(len(data)), len(data)); err != nil {
		return err
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return &Undecodable{err}
	}
	c.shrink(decoded) // the texts have been copied
	return nil
}
