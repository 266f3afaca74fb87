package jsonrpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// lenient has a text split as encoding/json splits it. What is not UTF-8 is refused when a request is
// read, and object refuses repeated members itself.
var lenient = jsontext.AllowInvalidUTF8(true)

// entry is a member of an object. The value is a part of the object's text, without
// white space around it.
type entry struct {
	name  string
	value json.RawMessage
}

// object splits a JSON object into its members, in the order in which they stand; a
// repeated one is an error.
func object(raw json.RawMessage) (members []entry, err error) {
	members = make([]entry, 0, 8)
	err = split(raw, jsontext.KindBeginObject, func(dec *jsontext.Decoder) error {
		key, err := dec.ReadToken()
		if err != nil {
			return err
		}
		name := key.String()
		if slices.ContainsFunc(members, func(m entry) bool { return m.name == name }) {
			return fmt.Errorf("%s is given twice", name)
		}
		v, err := value(dec, raw)
		members = append(members, entry{name, v})
		return err
	})
	return members, err
}

// array splits a JSON array into its elements.
func array(raw json.RawMessage) (items []json.RawMessage, err error) {
	err = split(raw, jsontext.KindBeginArray, func(dec *jsontext.Decoder) error {
		v, err := value(dec, raw)
		items = append(items, v)
		return err
	})
	return items, err
}

// value reads the next value of raw, as a part of that: what the decoder itself returns is
// valid until it reads on.
func value(dec *jsontext.Decoder, raw json.RawMessage) (json.RawMessage, error) {
	v, err := dec.ReadValue()
	end := int(dec.InputOffset())
	return raw[end-len(v) : end : end], err
}

// split has each called where the next member or element of raw begins.
func split(raw json.RawMessage, open jsontext.Kind, each func(*jsontext.Decoder) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), lenient, jsontext.AllowDuplicateNames(true))
	if dec.PeekKind() != open {
		return fmt.Errorf("%s is not %s", excerpt(raw), map[jsontext.Kind]string{'{': "an object", '[': "an array"}[open])
	}
	_, err := dec.ReadToken()
	for err == nil {
		switch dec.PeekKind() {
		case jsontext.KindEndObject, jsontext.KindEndArray:
			_, err = dec.ReadToken()
			return err
		}
		err = each(dec)
	}
	return err
}
