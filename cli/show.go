package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// show prints a reply in the format asked for.
func (s *session) show(reply proto.Message) error {
	var b []byte
	switch s.output {
	case "table":
		b = table(reply.ProtoReflect())
	default:
		b = append(appendMessage(nil, reply.ProtoReflect(), ""), '\n')
		if s.output == "yaml" {
			var err error
			if b, err = toYAML(b); err != nil {
				return err
			}
		}
	}
	_, err := s.stdout.Write(b)
	return err
}

// toYAML rewrites JSON, which is YAML, in block style.
func toYAML(b []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	block(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

func block(n *yaml.Node) {
	n.Style = 0 // the encoder still quotes what would read as another type
	for _, c := range n.Content {
		block(c)
	}
}

// table prints a reply for people: a list as rows, one object as its fields
// with its own lists as rows below.
func table(m protoreflect.Message) []byte {
	var out bytes.Buffer
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Name() == "reply_info" || f.Name() == "warning_list":
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			rows(&out, f, m.Get(f).List())
		case f.Kind() == protoreflect.MessageKind:
			one(&out, m.Get(f).Message())
		case f.Name() == "next_token" && m.Get(f).String() != "":
			fmt.Fprintf(&out, "\nmore: --token %s\n", m.Get(f).String())
		}
	}
	return out.Bytes()
}

// hidden are columns that a table leaves out for width.
var hidden = []protoreflect.Name{"error_time", "version", "data_plane_version", "min_legs", "raw_size", "description",
	"rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec"}

func rows(out *bytes.Buffer, f protoreflect.FieldDescriptor, l protoreflect.List) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	var columns []protoreflect.FieldDescriptor
	all := f.Message().Fields()
	for i := range all.Len() {
		c := all.Get(i)
		if !c.IsList() && c.Kind() != protoreflect.MessageKind && !strings.HasSuffix(string(c.Name()), "_id") &&
			!slices.Contains(hidden, c.Name()) {
			columns = append(columns, c)
		}
	}
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", strings.ToUpper(string(c.Name())))
	}
	fmt.Fprintln(w)
	for i := range l.Len() {
		for _, c := range columns {
			fmt.Fprintf(w, "%s\t", cell(c, l.Get(i).Message().Get(c)))
		}
		fmt.Fprintln(w)
	}
	w.Flush() // into memory
}

func one(out *bytes.Buffer, m protoreflect.Message) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); !f.IsList() {
			fmt.Fprintf(w, "%s\t%s\n", f.Name(), cell(f, m.Get(f)))
		} else if f.Kind() != protoreflect.MessageKind {
			var words []string
			for j := range m.Get(f).List().Len() {
				words = append(words, m.Get(f).List().Get(j).String())
			}
			fmt.Fprintf(w, "%s\t%s\n", f.Name(), strings.Join(words, " "))
		}
	}
	w.Flush() // into memory
	nested(out, m)
}

// nested prints the lists of an object, and the lists in those.
func nested(out *bytes.Buffer, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !f.IsList() || f.Kind() != protoreflect.MessageKind || m.Get(f).List().Len() == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s\n", f.Name())
		rows(out, f, m.Get(f).List())
		for j := range m.Get(f).List().Len() {
			nested(out, m.Get(f).List().Get(j).Message())
		}
	}
}

func cell(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case f.Kind() == protoreflect.BoolKind && v.Bool():
		return "yes"
	case f.Kind() == protoreflect.BoolKind:
		return "no"
	case strings.HasSuffix(string(f.Name()), "size"), strings.HasSuffix(string(f.Name()), "_bytes"):
		return size(v.Uint())
	case v.String() == "":
		return "-"
	}
	return v.String()
}

// size is n bytes in the largest unit that divides it.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for n >= 1024 && n%1024 == 0 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return fmt.Sprintf("%d %s", n, units[i])
}
