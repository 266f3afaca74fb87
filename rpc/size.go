package rpc

import (
	"reflect"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// decodedSize is about how many bytes m takes when data has been decoded into
// it; a message of two bytes can become a hundred. It stops counting beyond
// limit, and at what cannot be decoded, at which decoding stops too.
func decodedSize(m proto.Message, data []byte, limit int64) int64 {
	w := sizer{limit: limit, size: structSize(m.ProtoReflect().Descriptor())}
	w.message(m.ProtoReflect().Descriptor(), data, protowire.DefaultRecursionLimit)
	return w.size
}

type sizer struct{ size, limit int64 }

// perElement is what an element of a repeated field takes beside itself: Go
// doubles arrays that grow.
const (
	perElement = 2 * 8
	perEntry   = 128 // of a map
)

func (w *sizer) message(desc protoreflect.MessageDescriptor, b []byte, depth int) {
	fields := desc.Fields()
	for len(b) > 0 && w.size <= w.limit && depth > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		field := fields.ByNumber(num)
		value := b[n:]
		m := protowire.ConsumeFieldValue(num, typ, value)
		if m < 0 {
			return
		}
		b = value[m:]
		switch {
		case field == nil: // kept as it came
			w.size += 2 * int64(n+m)
		case typ != protowire.BytesType:
			w.size += perElement + 2*int64(n+m)
		default:
			text, _ := protowire.ConsumeBytes(value)
			w.bytes(field, text, depth)
		}
	}
}

// bytes counts a field that has a length: a message, a text, or packed numbers.
func (w *sizer) bytes(field protoreflect.FieldDescriptor, b []byte, depth int) {
	switch {
	case field.IsMap():
		w.size += perEntry
		w.message(field.Message(), b, depth-1)
	case field.Message() != nil:
		w.size += structSize(field.Message()) + perElement
		w.message(field.Message(), b, depth-1)
	case field.Kind() == protoreflect.StringKind || field.Kind() == protoreflect.BytesKind:
		w.size += int64(len(b)+15)&^15 + 3*perElement
	default:
		w.size += int64(len(b)) * perElement
	}
}

// structSizes has what an empty message takes, by its name.
var structSizes sync.Map

func structSize(desc protoreflect.MessageDescriptor) int64 {
	if size, ok := structSizes.Load(desc.FullName()); ok {
		return size.(int64)
	}
	size := int64(256)
	if t, err := protoregistry.GlobalTypes.FindMessageByName(desc.FullName()); err == nil {
		size = int64(reflect.TypeOf(t.Zero().Interface()).Elem().Size()+15) &^ 15
	}
	structSizes.Store(desc.FullName(), size)
	return size
}
