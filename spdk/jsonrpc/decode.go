package jsonrpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Decode fills the struct that dst points to from an object, strictly. raw must be JSON.
// Members are named by the fields' rpc tags; those with ",optional" may be
// missing and then leave the field as it is. Fields are strings, bools,
// integers, uuid.UUID, slices, structs or pointers to these; a pointer says
// whether the member was there. With relaxed, unknown members of
// the outermost object are ignored (a few of SPDK's methods do).
//
// Numbers may be written like 1e3 or 512.0 as long as they are whole and fit.
// Strings must not hold control characters, NUL among them, nor half of a
// surrogate pair; null is no value of anything.
func Decode(raw json.RawMessage, dst any, relaxed bool) error {
	return DecodeWith(raw, dst, relaxed, nil)
}

// Other is asked about a member that no field takes. at is the member's name,
// behind those of the objects it stands in, as in "namespace.nsid". It reports
// whether there is such a parameter, and what is wrong with its value.
type Other func(at string, value json.RawMessage) (known bool, err error)

// DecodeWith is Decode for parameters that have members besides the fields. The
// errors of other are returned behind the member's name.
func DecodeWith(raw json.RawMessage, dst any, relaxed bool, other Other) error {
	return decoder{other}.object(raw, reflect.ValueOf(dst).Elem(), "", relaxed)
}

// DecodeValue fills what dst points to from one value, as Decode does a member.
func DecodeValue(raw json.RawMessage, dst any) error {
	return decoder{}.value(raw, reflect.ValueOf(dst).Elem(), "")
}

// decoder is one Decode; at is where in the parameters it is, "" outermost.
type decoder struct{ other Other }

// Field describes one member that Decode takes.
type Field struct {
	Name     string
	Type     string // JSON words: string, uint32, bool, uuid, array, object …
	Optional bool
	Doc      string
}

// Fields lists the members of a parameter struct in declaration order.
func Fields(params any) []Field {
	t := reflect.TypeOf(params)
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var out []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, optional, ok := member(f)
		if ok {
			out = append(out, Field{Name: name, Type: typeName(f.Type), Optional: optional, Doc: f.Tag.Get("doc")})
		}
	}
	return out
}

// Results lists the members of a result as it is marshaled: of the struct v, and
// under NAME.MEMBER and NAME[].MEMBER of the structs in it and in its arrays.
func Results(v any) []Field { return results(reflect.TypeOf(v), "") }

func results(t reflect.Type, under string) (out []Field) {
	for f := range t.Fields() {
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		out = append(out, Field{Name: under + name, Type: typeName(f.Type), Optional: rest == "omitempty", Doc: f.Tag.Get("doc")})
		switch elem := f.Type; {
		case elem.Kind() == reflect.Slice && elem.Elem().Kind() == reflect.Struct:
			out = append(out, results(elem.Elem(), under+name+"[].")...)
		case elem.Kind() == reflect.Struct:
			out = append(out, results(elem, under+name+".")...)
		}
	}
	return out
}

func member(f reflect.StructField) (name string, optional, ok bool) {
	tag, ok := f.Tag.Lookup("rpc")
	if !ok {
		return "", false, false
	}
	name, rest, _ := strings.Cut(tag, ",")
	return name, rest == "optional", true
}

// TypeName is the word for the type of v that Fields uses.
func TypeName(v any) string { return typeName(reflect.TypeOf(v)) }

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[uuid.UUID]():
		return "uuid"
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	case t.Kind() == reflect.Slice:
		return "array of " + typeName(t.Elem())
	case t.Kind() == reflect.Struct:
		return "object"
	case t.Kind() == reflect.Bool:
		return "boolean"
	}
	return t.Kind().String()
}

// param is a field that Decode fills.
type param struct {
	name     string
	field    int
	optional bool
}

// params are the fields, a []param, of each struct that was decoded to. They are the process's, as
// its types are.
var params sync.Map

func paramsOf(t reflect.Type) []param {
	if known, ok := params.Load(t); ok {
		return known.([]param)
	}
	var all []param
	for i := range t.NumField() {
		if name, optional, ok := member(t.Field(i)); ok {
			all = append(all, param{name, i, optional})
		}
	}
	params.Store(t, all)
	return all
}

func (d decoder) object(raw json.RawMessage, dst reflect.Value, at string, relaxed bool) error {
	members, err := object(raw)
	if err != nil {
		return err
	}
	for _, f := range paramsOf(dst.Type()) {
		i := slices.IndexFunc(members, func(m entry) bool { return m.name == f.name })
		if i < 0 {
			if !f.optional {
				return fmt.Errorf("%s is missing", f.name)
			}
			continue
		}
		if err := d.value(members[i].value, dst.Field(f.field), within(at, f.name)); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		members = slices.Delete(members, i, i+1)
	}
	return d.rest(members, at, relaxed)
}

// rest deals with the members that no field has taken.
func (d decoder) rest(members []entry, at string, relaxed bool) error {
	slices.SortFunc(members, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for _, m := range members {
		known := false
		if d.other != nil {
			var err error
			if known, err = d.other(within(at, m.name), m.value); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		if !known && !relaxed {
			return fmt.Errorf("%s is not a parameter", m.name)
		}
	}
	return nil
}

// within is the name of a member of the object at.
func within(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

func (d decoder) value(raw json.RawMessage, dst reflect.Value, at string) error {
	switch {
	case dst.Kind() == reflect.Pointer:
		v := reflect.New(dst.Type().Elem())
		if err := d.value(raw, v.Elem(), at); err != nil {
			return err
		}
		dst.Set(v)
		return nil
	case dst.Type() == reflect.TypeFor[uuid.UUID]():
		return decodeUUID(raw, dst)
	}
	switch dst.Kind() {
	case reflect.String:
		s, err := decodeString(raw)
		dst.SetString(s)
		return err
	case reflect.Bool:
		on := string(raw) == "true"
		if !on && string(raw) != "false" {
			return fmt.Errorf("%s is neither true nor false", excerpt(raw))
		}
		dst.SetBool(on)
		return nil
	case reflect.Struct:
		return d.object(raw, dst, at, false)
	case reflect.Slice:
		return d.slice(raw, dst, at)
	}
	return decodeInteger(raw, dst)
}

func decodeString(raw json.RawMessage) (string, error) {
	if loneSurrogate(raw) {
		return "", fmt.Errorf("%s holds half of a surrogate pair, which stands for no character", excerpt(raw))
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "", fmt.Errorf("%s is not a string", excerpt(raw))
	}
	s := string(text)
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		r, _ := utf8.DecodeRuneInString(s[i:])
		return "", fmt.Errorf("%s holds the control character U+%04X", excerpt(raw), r)
	}
	return s, nil
}

// loneSurrogate reports an escape \uD800 to \uDFFF without its other half in
// a JSON string, which encoding/json would turn into U+FFFD: two names that
// differ would be one.
func loneSurrogate(raw []byte) bool {
	unit := func(i int) (rune, bool) { // of the escape at i
		if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		return rune(n), err == nil
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		r, ok := unit(i)
		switch {
		case !ok:
			i++ // an escape of one letter
		case utf16.IsSurrogate(r):
			next, ok := unit(i + 6)
			if !ok || utf16.DecodeRune(r, next) == unicode.ReplacementChar {
				return true
			}
			i += 11
		default:
			i += 5
		}
	}
	return false
}

func decodeUUID(raw json.RawMessage, dst reflect.Value) error {
	s, err := decodeString(raw)
	if err != nil {
		return err
	}
	id, err := uuid.Parse(s)
	if err != nil || (len(s) != 36 && len(s) != 32) {
		return fmt.Errorf("%s is not a UUID", excerpt(raw))
	}
	dst.Set(reflect.ValueOf(id))
	return nil
}

func (d decoder) slice(raw json.RawMessage, dst reflect.Value, at string) error {
	items, err := array(raw)
	if err != nil {
		return fmt.Errorf("%s is not an array", excerpt(raw))
	}
	out := reflect.MakeSlice(dst.Type(), len(items), len(items))
	for i, item := range items {
		if err := d.value(item, out.Index(i), at); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	dst.Set(out)
	return nil
}

// maxNumber bounds the text of a number, and maxExponent its exponent, so
// that 1e999999999 costs nothing.
const (
	maxNumber   = 64
	maxExponent = 20
)

func decodeInteger(raw json.RawMessage, dst reflect.Value) error {
	if n, ok := digits(raw); ok && dst.CanUint() && !dst.OverflowUint(n) {
		dst.SetUint(n)
		return nil
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil && dst.CanInt() && raw[0] != '+' && !dst.OverflowInt(n) {
		dst.SetInt(n)
		return nil
	}
	bad := fmt.Errorf("%s is not a %s", excerpt(raw), dst.Kind())
	if len(raw) == 0 || len(raw) > maxNumber || (raw[0] != '-' && (raw[0] < '0' || raw[0] > '9')) {
		return bad
	}
	if i := bytes.IndexAny(raw, "eE"); i >= 0 {
		var exp int
		if _, err := fmt.Sscanf(string(raw[i+1:]), "%d", &exp); err != nil || exp > maxExponent || exp < -maxExponent {
			return bad
		}
	}
	r, ok := new(big.Rat).SetString(string(raw))
	if !ok || !r.IsInt() {
		return bad
	}
	n := r.Num()
	if dst.CanUint() {
		if !n.IsUint64() || dst.OverflowUint(n.Uint64()) {
			return bad
		}
		dst.SetUint(n.Uint64())
		return nil
	}
	if !n.IsInt64() || dst.OverflowInt(n.Int64()) {
		return bad
	}
	dst.SetInt(n.Int64())
	return nil
}

// digits reads a number that is written without a sign, a point and an exponent, and is short.
func digits(raw []byte) (n uint64, ok bool) {
	if len(raw) == 0 || len(raw) > 19 || raw[0] == '0' && len(raw) > 1 {
		return 0, false
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return n, true
}

// excerpt is the beginning of a value, for messages.
func excerpt(raw []byte) string {
	if len(raw) > 40 {
		return string(raw[:40]) + "…"
	}
	if len(raw) == 0 {
		return "nothing"
	}
	return string(raw)
}
