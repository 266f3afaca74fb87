package vda

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// object is a JSON object whose keys are known beforehand: a conf that a user
// typed. Unknown, missing and repeated keys are errors, as is anything after
// the object.
type object struct {
	field string // of the request, for messages
	form  string // what is right, for messages
	vals  map[string]json.RawMessage
}

// parseObject reads text. Keys that the caller does not ask for with one of
// the methods below must be refused with only.
func parseObject(field, form, text string) (*object, error) {
	o := &object{field: field, form: form, vals: map[string]json.RawMessage{}}
	dec := json.NewDecoder(strings.NewReader(text))
	t, err := dec.Token()
	if err == io.EOF {
		return nil, invalid("%s is missing: it must be %s", field, form)
	}
	if err != nil {
		return nil, o.broken(text, err)
	}
	if t != json.Delim('{') {
		return nil, invalid("%s %q is not a JSON object: it must be %s", field, Shorten(text, 80), form)
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, o.broken(text, err)
		}
		key := t.(string) // the decoder lets nothing else stand there
		if _, twice := o.vals[key]; twice {
			return nil, invalid("%s has the key %q twice: it must be %s", field, Shorten(key, 40), form)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, o.broken(text, err)
		}
		o.vals[key] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, o.broken(text, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, invalid("%s %q has something after the closing brace: it must be %s", field, Shorten(text, 80), form)
	}
	return o, nil
}

func (o *object) broken(text string, err error) error {
	why, at := "it ends too early", new(json.SyntaxError)
	if errors.As(err, &at) && at.Offset > 0 && at.Offset < int64(len(text)) {
		why = fmt.Sprintf("%q, byte %d, cannot stand there", text[at.Offset-1], at.Offset)
	}
	return invalid("%s %q is not valid JSON (%s): it must be %s", o.field, Shorten(text, 80), why, o.form)
}

// only refuses every key that is not among keys.
func (o *object) only(keys ...string) error {
	var unknown []string
	for k := range o.vals {
		if !slices.Contains(keys, k) {
			unknown = append(unknown, k)
		}
	}
	if unknown == nil {
		return nil
	}
	slices.Sort(unknown)
	return invalid("%s has the unknown key %q; the keys are %s: it must be %s",
		o.field, Shorten(unknown[0], 40), strings.Join(keys, ", "), o.form)
}

func (o *object) missing(key string) error {
	return invalid("%s lacks the key %q: it must be %s", o.field, key, o.form)
}

// text is the string under key, which must be there.
func (o *object) text(key string) (string, error) {
	raw, ok := o.vals[key]
	if !ok {
		return "", o.missing(key)
	}
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", invalid("%s: %q is %s, not a string in double quotes: it must be %s", o.field, key, Shorten(string(raw), 40), o.form)
	}
	return s, nil
}

// number is the unsigned integer under key; set is false when it is not there.
func (o *object) number(key string) (n uint64, set bool, err error) {
	raw, ok := o.vals[key]
	if !ok {
		return 0, false, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if _, err := strconv.ParseUint(string(raw), 10, 64); errors.Is(err, strconv.ErrRange) {
		return 0, false, invalid("%s: %q is %s, more than 2^64: it must be %s", o.field, key, Shorten(string(raw), 40), o.form)
	}
	if dec.Decode(&n) != nil || raw[0] == 'n' {
		return 0, false, invalid("%s: %q is %s, not a whole number without sign and quotes: it must be %s",
			o.field, key, Shorten(string(raw), 40), o.form)
	}
	return n, true, nil
}

// flag is the boolean under key, false when it is not there.
func (o *object) flag(key string) (bool, error) {
	switch raw, ok := o.vals[key]; {
	case !ok || string(raw) == "false":
		return false, nil
	case string(raw) == "true":
		return true, nil
	default:
		return false, invalid("%s: %q is %s, not true or false: it must be %s", o.field, key, Shorten(string(raw), 40), o.form)
	}
}
