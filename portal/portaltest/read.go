package portaltest

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
)

// read reads every word of a reply, as users do.
func (c *Cluster) read(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	err := call(ctx, method, req, reply, cc, opts...)
	if err == nil {
		c.words(method, reply.(proto.Message).ProtoReflect())
		return nil
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*apiv1.ReplyInfo); ok {
			c.words(method, info.ProtoReflect())
		}
	}
	return err
}

// words looks for what is raw in all texts of a message.
func (c *Cluster) words(method string, m protoreflect.Message) {
	one := func(f protoreflect.FieldDescriptor, v protoreflect.Value) {
		switch f.Kind() {
		case protoreflect.MessageKind:
			c.words(method, v.Message())
		case protoreflect.StringKind:
			if raw := reason.Raw(v.String()); raw != "" {
				c.t.Errorf("%s: %s shows %q, which is a library's: %s", method, f.Name(), raw, v)
			}
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !f.IsList() {
			one(f, v)
			return true
		}
		for i := range v.List().Len() {
			one(f, v.List().Get(i))
		}
		return true
	})
}
