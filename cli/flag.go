package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/virtual-disk-array/vda/program"
)

// flag fills one field of a request.
type flag struct {
	name     string
	field    string // of the request, "a.b" of a message in it; "" is name with underscores
	usage    string // begins with a word in back quotes that stands for the value
	required bool
	def      string // what the portal takes when the flag is not given, for the help
	min      uint32 // of a number: what is below is refused
	syntax   syntax
	values   []string // of which the value is one, for completion; the portal checks it
}

// syntax is how a value is written, where the field's type does not say.
type syntax uint8

const (
	plain      syntax = iota
	sizeText          // bytes, or a number with a unit
	jsonText          // a JSON object
	secretFile        // a file with a secret, "-" for standard input
	whole             // a whole number above 0, of a part
	onOff             // true without a value
	order             // likewise, and on the command line alone: what it allows cannot be taken back
)

func (f *flag) add(flags *pflag.FlagSet, req proto.Message) {
	name := f.field
	if name == "" {
		name = strings.ReplaceAll(f.name, "-", "_")
	}
	r := req.ProtoReflect()
	for at, rest, nested := strings.Cut(name, "."); nested; at, rest, nested = strings.Cut(name, ".") {
		r, name = r.Mutable(r.Descriptor().Fields().ByName(protoreflect.Name(at))).Message(), rest
	}
	field := r.Descriptor().Fields().ByName(protoreflect.Name(name))
	if field == nil {
		panic(fmt.Sprintf("--%s: %s has no field %s", f.name, r.Descriptor().Name(), name))
	}
	usage := f.usage
	switch instead := partsOf(f.name); {
	case f.required && instead != nil:
		usage += fmt.Sprintf("; made of --%s and what goes with it when not given", instead.flags[0].name)
	case f.required:
		usage += " (required)"
	}
	flags.Var(&value{r, field, f.min, f.syntax, ""}, f.name, usage)
	v := flags.Lookup(f.name)
	v.DefValue = f.def
	if f.syntax >= onOff {
		v.NoOptDefVal = "true"
	}
}

// value is a pflag.Value that sets a request's field. pflag puts the flag's
// name and the text before its errors.
type value struct {
	req    protoreflect.Message
	field  protoreflect.FieldDescriptor
	min    uint32
	syntax syntax
	text   string
}

func (v *value) String() string { return v.text }

func (v *value) Type() string {
	if v.syntax >= onOff {
		return "bool" // pflag then shows no placeholder
	}
	return "VALUE"
}

func (v *value) Set(text string) error {
	x, err := v.parse(text)
	if err != nil {
		return err
	}
	v.text = text
	if v.field.IsList() {
		v.req.Mutable(v.field).List().Append(x)
	} else {
		v.req.Set(v.field, x)
	}
	return nil
}

func (v *value) parse(text string) (protoreflect.Value, error) {
	switch v.field.Kind() {
	case protoreflect.StringKind:
		if !utf8.ValidString(text) {
			return protoreflect.Value{}, errors.New("it is not valid UTF-8")
		}
		if v.syntax == jsonText {
			if err := checkJSON(text); err != nil {
				return protoreflect.Value{}, err
			}
		}
		return protoreflect.ValueOfString(text), nil
	case protoreflect.BoolKind:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return protoreflect.Value{}, errors.New("it must be true or false (1 and 0 do too)")
		}
		return protoreflect.ValueOfBool(b), nil
	case protoreflect.Uint32Kind:
		n, err := strconv.ParseUint(text, 10, 32)
		if errors.Is(err, strconv.ErrRange) {
			return protoreflect.Value{}, fmt.Errorf("it must be at most %d", uint32(math.MaxUint32))
		}
		if err != nil || n < uint64(v.min) {
			return protoreflect.Value{}, fmt.Errorf("it must be a whole number, %d or more", v.min)
		}
		return protoreflect.ValueOfUint32(uint32(n)), nil
	case protoreflect.Uint64Kind:
		if v.syntax == plain {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				err = fmt.Errorf("it must be a whole number, 0 or more, at most %d", uint64(math.MaxUint64))
			}
			return protoreflect.ValueOfUint64(n), err
		}
		n, err := parseBytes(text)
		return protoreflect.ValueOfUint64(n), err
	}
	panic("no flag can set a field of kind " + v.field.Kind().String())
}

// secretPath is the file that a flag names for a secret, "" for none.
func (f *flag) secretPath(flags *pflag.FlagSet) string {
	given := flags.Lookup(f.name)
	switch {
	case f.syntax != secretFile:
		return ""
	case !given.Changed:
		return f.def
	}
	return given.Value.String()
}

// onceStdin refuses two secrets from standard input, unless that is a terminal, where each is asked for.
func (c *command) onceStdin(cmd *cobra.Command) error {
	first := ""
	for i := range c.flags {
		f := &c.flags[i]
		if f.secretPath(cmd.Flags()) != "-" || program.Asks(cmd) {
			continue
		}
		if first != "" {
			return fmt.Errorf("--%s and --%s are both to be read from standard input, which has one of them; name a file for the other",
				first, f.name)
		}
		first = f.name
	}
	return nil
}

// fillSecret has a field that a flag gave the name of a file hold what is in it.
func (f *flag) fillSecret(cmd *cobra.Command, req proto.Message) error {
	path := f.secretPath(cmd.Flags())
	if path == "" {
		if given := cmd.Flags().Lookup(f.name); f.syntax != secretFile || !given.Changed {
			return nil
		}
	}
	question := "Password: "
	switch {
	case strings.HasPrefix(f.name, "dhchap-"):
		question = "Key: "
	case strings.HasPrefix(f.name, "new-"):
		question = "New password: "
	}
	secret, err := program.Secret(cmd, path, question)
	if err != nil {
		return fmt.Errorf("--%s %s: %w", f.name, path, err)
	}
	r := req.ProtoReflect()
	r.Set(r.Descriptor().Fields().ByName(protoreflect.Name(f.field)), protoreflect.ValueOfString(secret))
	return nil
}

// parseBytes reads a number of bytes: digits, and perhaps one of K, M, G, T, P
// for powers of 1024, also written Ki or KiB.
func parseBytes(text string) (uint64, error) {
	const rule = "it must be a number of bytes, like 33554432, or one with a unit of 1024: 32M, 1G, 2T"
	digits := strings.TrimRight(text, "KMGTPiBkmgtp")
	n, err := strconv.ParseUint(digits, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errors.New("it is more than 2^64 bytes")
	}
	if err != nil {
		return 0, errors.New(rule)
	}
	shift := 0
	if unit := text[len(digits):]; unit != "" {
		power := strings.IndexByte("KMGTP", strings.ToUpper(unit)[0])
		if power < 0 || !slices.Contains([]string{"", "i", "iB", "B"}, unit[1:]) {
			return 0, errors.New(rule)
		}
		shift = 10 * (power + 1)
	}
	if bits.Len64(n)+shift > 64 {
		return 0, errors.New("it is more than 2^64 bytes")
	}
	return n << shift, nil
}

// checkJSON finds what the shell or a slip has done to a JSON object; the
// portal checks its keys.
func checkJSON(text string) error {
	var o map[string]json.RawMessage
	var syntaxErr *json.SyntaxError
	switch err := json.Unmarshal([]byte(text), &o); {
	case errors.As(err, &syntaxErr):
		return fmt.Errorf("it is not valid JSON: %w after %d bytes; put the whole object into single quotes", err, syntaxErr.Offset)
	case err != nil || o == nil:
		return errors.New(`it is not a JSON object, like '{"key":"value"}'`)
	}
	return nil
}

// formats are those of every reply.
var formats = []string{"json", "yaml", "table", "wide", "name", "jsonpath="}

// output is a pflag.Value: the format of the reply.
type output struct {
	format string   // one of formats, without "="
	path   jsonPath // for "jsonpath"
	text   string
}

func (o *output) String() string { return o.text }
func (o *output) Type() string   { return "FORMAT" }

func (o *output) Set(text string) error {
	format, path, isPath := strings.Cut(text, "=")
	var p jsonPath
	switch {
	case isPath && format == "jsonpath":
		var err error
		if p, err = parsePath(path); err != nil {
			return err
		}
	case isPath || format == "jsonpath" || !slices.Contains(formats, format):
		return fmt.Errorf("it must be %s", strings.Join(formats[:5], ", ")+" or jsonpath={PATH}")
	}
	*o = output{format, p, text}
	return nil
}

// forPeople reports that what is printed is not for a program to read.
func (o *output) forPeople() bool { return o.format == "table" || o.format == "wide" }
