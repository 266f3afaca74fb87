package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
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
	switch format := s.format(); format {
	case "table", "wide":
		b = s.table(reply.ProtoReflect())
	case "name":
		b = names(nil, reply.ProtoReflect())
	default:
		b = append(appendMessage(nil, reply.ProtoReflect(), ""), '\n')
		switch format {
		case "yaml":
			var err error
			if b, err = toYAML(b); err != nil {
				return err
			}
		case "jsonpath":
			var v any
			dec := json.NewDecoder(bytes.NewReader(b))
			dec.UseNumber() // 64-bit numbers stay whole
			if err := dec.Decode(&v); err != nil {
				return err
			}
			var text strings.Builder
			s.output.path.print(&text, v)
			b = []byte(text.String())
			if !strings.HasSuffix(text.String(), "\n") {
				b = append(b, '\n')
			}
		}
	}
	_, err := s.stdout.Write(b)
	return err
}

// format is the one that a reply is printed in: a table for people who have asked for none,
// where that is what they want.
func (s *session) format() string {
	if s.human {
		return "table"
	}
	return s.output.format
}

// names appends a line with the name of each object of a reply.
func names(b []byte, m protoreflect.Message) []byte {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() != protoreflect.MessageKind {
			continue
		}
		objects := []protoreflect.Message{}
		if f.IsList() {
			for j := range m.Get(f).List().Len() {
				objects = append(objects, m.Get(f).List().Get(j).Message())
			}
		} else if m.Has(f) {
			objects = append(objects, m.Get(f).Message())
		}
		for _, o := range objects {
			if name := nameOf(o); name != "" {
				b = append(append(b, name...), '\n')
			}
		}
	}
	return b
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
func (s *session) table(m protoreflect.Message) []byte {
	var out bytes.Buffer
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Name() == "reply_info" || f.Name() == "warning_list":
		case f.IsList() && f.Kind() == protoreflect.MessageKind && s.human && m.Get(f).List().Len() == 0:
			fmt.Fprintln(&out, s.none)
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			s.rows(&out, f, m.Get(f).List())
		case f.Kind() == protoreflect.MessageKind:
			s.one(&out, m.Get(f).Message())
		case f.Name() == "next_token" && m.Get(f).String() != "":
			fmt.Fprintf(&out, "\nmore: --token %s\n", m.Get(f).String())
		}
	}
	return out.Bytes()
}

// columnsOf are those of a table of messages that nobody has chosen.
func (s *session) columnsOf(d protoreflect.MessageDescriptor) []column {
	var some []column
	for _, c := range allColumns(d) {
		if s.output.format == "wide" || !c.wide {
			some = append(some, c)
		}
	}
	return some
}

// allColumns are those that a table of messages can have: those of the type, or, of a
// type that has none, its fields.
func allColumns(d protoreflect.MessageDescriptor) []column {
	all := columns[d.Name()]
	fields := d.Fields()
	if all == nil {
		for i := range fields.Len() {
			f := fields.Get(i)
			if f.IsList() || f.Kind() == protoreflect.MessageKind {
				continue
			}
			head := strings.ToUpper(strings.ReplaceAll(string(f.Name()), "_", "-"))
			all = append(all, column{head: head, wide: strings.HasSuffix(head, "-ID"),
				of: func(m protoreflect.Message) string { return cell(f, m.Get(f)) }})
		}
	} else if fields.ByName("label_list") != nil {
		all = append(slices.Clip(all),
			wide(col("LABELS", func(m described) string { return strings.Join(m.GetLabelList(), ",") })),
			wide(col("DESCRIPTION", func(m described) string { return oneLine(m.GetDescription()) })))
	}
	return all
}

// described is a message of an object with labels.
type described interface {
	proto.Message
	GetLabelList() []string
	GetDescription() string
}

// pick returns the columns that --columns names, of a list's type.
func (s *session) pick(d protoreflect.MessageDescriptor) ([]column, error) {
	all, some := allColumns(d), []column(nil)
	for name := range strings.SplitSeq(s.columns, ",") {
		at := slices.IndexFunc(all, func(c column) bool { return strings.EqualFold(c.head, strings.TrimSpace(name)) })
		if at < 0 {
			var heads []string
			for _, c := range all {
				heads = append(heads, strings.ToLower(c.head))
			}
			return nil, fmt.Errorf("--columns %q: there is no column %q; there are %s", s.columns, strings.TrimSpace(name),
				strings.Join(heads, ", "))
		}
		some = append(some, all[at])
	}
	return some, nil
}

// checkColumns is the error of a --columns that a reply cannot be printed with.
func (s *session) checkColumns(reply protoreflect.MessageDescriptor) error {
	if s.columns == "" {
		return nil
	}
	fields := reply.Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.IsList() && f.Kind() == protoreflect.MessageKind {
			_, err := s.pick(f.Message())
			return err
		}
	}
	return fmt.Errorf("--columns %q is for tables of lists; this command prints one object", s.columns)
}

// rows prints a list. Those inside of an object have all their columns.
func (s *session) rows(out *bytes.Buffer, f protoreflect.FieldDescriptor, l protoreflect.List) {
	columns := s.columnsOf(f.Message())
	if s.columns != "" {
		if some, err := s.pick(f.Message()); err == nil { // it has been checked
			columns = some
		}
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(cells []string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }
	if !s.noHeaders {
		var heads []string
		for _, c := range columns {
			heads = append(heads, c.head)
		}
		line(heads)
	}
	for i := range l.Len() {
		var cells []string
		for _, c := range columns {
			cells = append(cells, c.of(l.Get(i).Message()))
		}
		line(cells)
	}
	w.Flush() // into memory
}

func (s *session) one(out *bytes.Buffer, m protoreflect.Message) {
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
	s.nested(out, m)
}

// nested prints the lists of an object, and the lists in those.
func (s *session) nested(out *bytes.Buffer, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !f.IsList() || f.Kind() != protoreflect.MessageKind || m.Get(f).List().Len() == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s\n", f.Name())
		s.rows(out, f, m.Get(f).List())
		for j := range m.Get(f).List().Len() {
			s.nested(out, m.Get(f).List().Get(j).Message())
		}
	}
}

func cell(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case f.Kind() == protoreflect.BoolKind && v.Bool():
		return "yes"
	case f.Kind() == protoreflect.BoolKind:
		return "no"
	case strings.HasPrefix(string(f.Name()), "auto_grow") && v.Uint() == 0:
		return "-"
	case strings.HasSuffix(string(f.Name()), "size"), strings.HasSuffix(string(f.Name()), "_bytes"), f.Name() == "auto_grow":
		return size(v.Uint())
	case f.Name() == "rebuild_percent" && v.Uint() == 0:
		return "-"
	case f.Name() == "rebuild_bytes_per_sec":
		return cmp.Or(rate(v.Uint()), "-")
	case f.Name() == "rebuild_left_sec":
		return cmp.Or(left(v.Uint()), "-")
	case v.String() == "":
		return "-"
	case strings.HasSuffix(string(f.Name()), "_conf"):
		return brief(v.String())
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

// oneLine is a text without its line ends and tabs, which would look like rows and
// columns of the table.
func oneLine(text string) string {
	return strings.NewReplacer("\r", " ", "\n", " ", "\t", " ").Replace(text)
}
