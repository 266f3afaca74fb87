package jsonrpc

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Requests are many and small, and have been found to be JSON when they were read. So
// they are cut into members here without being looked at once more, by tokens.

// entry is a member of an object. The value is a part of the object's text, without
// white space around it.
type entry struct {
	name  string
	value json.RawMessage
}

// errCut is what becomes of text that is not JSON.
var errCut = errors.New("it is not JSON")

// object splits a JSON object into its members, in the order in which they stand; a
// repeated one is an error.
func object(raw json.RawMessage) (members []entry, err error) {
	at, err := begins(raw, '{')
	if err != nil {
		return nil, fmt.Errorf("%s is not an object", excerpt(raw))
	}
	members = make([]entry, 0, 8)
	for more := raw[at] != '}'; more; {
		var key json.RawMessage
		if key, at, err = value(raw, at); err != nil {
			return nil, err
		}
		if at >= len(raw) || raw[at] != ':' {
			return nil, errCut
		}
		e := entry{}
		if e.name, err = keyOf(key); err != nil {
			return nil, err
		}
		if e.value, at, err = value(raw, space(raw, at+1)); err != nil {
			return nil, err
		}
		for i := range members {
			if members[i].name == e.name {
				return nil, fmt.Errorf("%s is given twice", e.name)
			}
		}
		members = append(members, e)
		if at, more, err = next(raw, at, '}'); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// array splits a JSON array into its elements.
func array(raw json.RawMessage) (items []json.RawMessage, err error) {
	at, err := begins(raw, '[')
	if err != nil {
		return nil, err
	}
	for more := raw[at] != ']'; more; {
		var item json.RawMessage
		if item, at, err = value(raw, at); err != nil {
			return nil, err
		}
		items = append(items, item)
		if at, more, err = next(raw, at, ']'); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// begins returns where the first thing stands in what opens with open.
func begins(raw []byte, open byte) (at int, err error) {
	if at = space(raw, 0); at >= len(raw) || raw[at] != open {
		return 0, errCut
	}
	if at = space(raw, at+1); at >= len(raw) {
		return 0, errCut
	}
	return at, nil
}

// next returns where the value behind a comma stands, or that it ends with end.
func next(raw []byte, at int, end byte) (after int, more bool, err error) {
	switch {
	case at < len(raw) && raw[at] == ',':
		return space(raw, at+1), true, nil
	case at < len(raw) && raw[at] == end:
		return at + 1, false, nil
	}
	return 0, false, errCut
}

// space returns where the white space ends that begins at at.
func space(raw []byte, at int) int {
	for at < len(raw) && (raw[at] == ' ' || raw[at] == '\n' || raw[at] == '\t' || raw[at] == '\r') {
		at++
	}
	return at
}

// value returns the value that begins at at, and where the next thing begins.
func value(raw json.RawMessage, at int) (v json.RawMessage, after int, err error) {
	begin, depth := at, 0
	for at < len(raw) {
		switch c := raw[at]; c {
		case '"':
			for at++; at < len(raw) && raw[at] != '"'; at++ {
				if raw[at] == '\\' {
					at++
				}
			}
			at++
		case '{', '[':
			depth++
			at++
		case '}', ']':
			depth--
			at++
		default:
			at++
			if depth == 0 { // a number, true, false or null
				for at < len(raw) && !ends(raw[at]) {
					at++
				}
			}
		}
		if depth < 0 || at > len(raw) {
			break
		}
		if depth == 0 {
			return raw[begin:at:at], space(raw, at), nil
		}
	}
	return nil, 0, errCut
}

// ends reports that a byte does not belong to a number or word any more.
func ends(c byte) bool {
	switch c {
	case ',', '}', ']', ':', ' ', '\n', '\t', '\r':
		return true
	}
	return false
}

// plain reports that a value is a string that stands for its own bytes.
func plain(raw []byte) bool {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return false
	}
	for _, c := range raw[1 : len(raw)-1] {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func keyOf(raw json.RawMessage) (name string, err error) {
	if plain(raw) {
		return string(raw[1 : len(raw)-1]), nil
	}
	return name, json.Unmarshal(raw, &name)
}
