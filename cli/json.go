package cli

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// protojson leaves zero values out, writes 64-bit integers as strings and
// varies its spaces on purpose; the tutorial's shape needs none of that.

const indent = "  "

// later are fields that came after the tutorial, of objects that it shows: they are
// left out when they are empty, so that what it shows stays as it is.
var later = []protoreflect.Name{"more_initiator_nqn_list", "auth_initiator_nqn_list",
	"rekey_initiator_nqn_list", "label_list", "description", "purge_time", "ns_uuid", "held_vd_msg_list",
	"held_cntlr_msg_list", "snap_writable"}

// appendMessage appends m as JSON: all fields in the order of the proto. The
// first line is not indented, the others are by prefix.
func appendMessage(b []byte, m protoreflect.Message, prefix string) []byte {
	fields := m.Descriptor().Fields()
	b = append(b, '{')
	for i := range fields.Len() {
		f := fields.Get(i)
		if slices.Contains(later, f.Name()) && !m.Has(f) {
			continue
		}
		b = appendKey(b, string(f.Name()), prefix, i == 0)
		switch {
		case f.IsList():
			b = appendList(b, f, m.Get(f).List(), prefix+indent)
		case f.Kind() == protoreflect.MessageKind && !m.Has(f):
			b = append(b, "null"...)
		default:
			b = appendValue(b, f, m.Get(f), prefix+indent)
		}
	}
	return appendClose(b, '}', prefix, fields.Len() == 0)
}

// appendReplyInfo appends an object that has reply_info only.
func appendReplyInfo(b []byte, info *apiv1.ReplyInfo) []byte {
	b = append(b, '{')
	b = appendKey(b, "reply_info", "", true)
	b = appendMessage(b, info.ProtoReflect(), indent)
	return appendClose(b, '}', "", false)
}

func appendKey(b []byte, name, prefix string, first bool) []byte {
	if !first {
		b = append(b, ',')
	}
	b = append(b, '\n')
	b = append(b, prefix...)
	b = append(b, indent...)
	b = appendString(b, name)
	return append(b, ": "...)
}

func appendClose(b []byte, c byte, prefix string, empty bool) []byte {
	if !empty {
		b = append(b, '\n')
		b = append(b, prefix...)
	}
	return append(b, c)
}

func appendList(b []byte, f protoreflect.FieldDescriptor, l protoreflect.List, prefix string) []byte {
	b = append(b, '[')
	for i := range l.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '\n')
		b = append(b, prefix...)
		b = append(b, indent...)
		b = appendValue(b, f, l.Get(i), prefix+indent)
	}
	return appendClose(b, ']', prefix, l.Len() == 0)
}

// appendValue appends one value of the kinds that the API has.
func appendValue(b []byte, f protoreflect.FieldDescriptor, v protoreflect.Value, prefix string) []byte {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return appendMessage(b, v.Message(), prefix)
	case protoreflect.StringKind:
		return appendString(b, v.String())
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool())
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return strconv.AppendUint(b, v.Uint(), 10)
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return strconv.AppendInt(b, v.Int(), 10)
	}
	panic("the API has a field of kind " + f.Kind().String() + ", which vda_cli cannot print")
}

func appendString(b []byte, s string) []byte {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		panic(err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
