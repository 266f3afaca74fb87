package jsonrpc

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

type inner struct {
	Name string `rpc:"bdev_name"`
	NSID uint32 `rpc:"nsid,optional"`
}

type sample struct {
	Name   string     `rpc:"name" doc:"a name"`
	Size   uint32     `rpc:"size"`
	Signed *int32     `rpc:"signed,optional"`
	Small  uint16     `rpc:"small,optional"`
	On     *bool      `rpc:"on,optional"`
	ID     *uuid.UUID `rpc:"uuid,optional"`
	List   []string   `rpc:"list,optional"`
	In     inner      `rpc:"namespace,optional"`
	Other  int        // no parameter
}

func TestDecode(t *testing.T) {
	var got sample
	in := `{"name":"ä","size":1e3,"signed":-1,"small":512.0,"on":false,"uuid":"11111111-2222-3333-4444-555555555555","list":["a"],"namespace":{"bdev_name":"b"}}`
	if err := Decode(json.RawMessage(in), &got, false); err != nil {
		t.Fatal(err)
	}
	id := uuid.MustParse("11111111-2222-3333-4444-555555555555")
	off, minus := false, int32(-1)
	want := sample{Name: "ä", Size: 1000, Signed: &minus, Small: 512, On: &off, ID: &id, List: []string{"a"}, In: inner{Name: "b"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tc := range []struct{ in, reason string }{
		{`{}`, "name is missing"},
		{`[]`, "not an object"},
		{`{"name":"a"}`, "size is missing"},
		{`{"name":"a","size":1,"zzz":1}`, "zzz is not a parameter"},
		{`{"name":"a","size":1,"Size":1}`, "Size is not a parameter"},
		{`{"name":"a","size":1,"size":1}`, "size is given twice"},
		{`{"name":3,"size":1}`, "name: 3 is not a string"},
		{`{"name":null,"size":1}`, "name: null is not a string"},
		{`{"name":"a\u0000b","size":1}`, "control character U+0000"},
		{`{"name":"a\nb","size":1}`, "control character U+000A"},
		{`{"name":"a\u0085","size":1}`, "control character U+0085"},
		{"{\"name\":\"a\x7f\",\"size\":1}", "control character U+007F"},
		{`{"name":"\ud800","size":1}`, "surrogate"},
		{`{"name":"a\udc00\ud800","size":1}`, "surrogate"},
		{`{"name":"\ud83dx","size":1}`, "surrogate"},
		{`{"name":"\\\ud83d","size":1}`, "surrogate"},
		{`{"name":"a","size":1,"list":["\uDFFF"]}`, "surrogate"},
		{`{"name":"a","size":1,"namespace":{"bdev_name":"\t"}}`, "control character U+0009"},
		{`{"name":"a","size":"1"}`, `size: "1" is not a uint32`},
		{`{"name":"a","size":-1}`, "size"},
		{`{"name":"a","size":1.5}`, "size"},
		{`{"name":"a","size":4294967296}`, "size"},
		{`{"name":"a","size":1e400000000}`, "size"},
		{`{"name":"a","size":1e-400000000}`, "size"},
		{`{"name":"a","size":null}`, "size"},
		{`{"name":"a","size":true}`, "size"},
		{`{"name":"a","size":1,"small":65536}`, "small"},
		{`{"name":"a","size":1,"on":1}`, "on: 1 is neither"},
		{`{"name":"a","size":1,"on":null}`, "on: null"},
		{`{"name":"a","size":1,"uuid":"xyz"}`, "uuid"},
		{`{"name":"a","size":1,"uuid":"urn:uuid:11111111-2222-3333-4444-555555555555"}`, "uuid"},
		{`{"name":"a","size":1,"list":"a"}`, "list"},
		{`{"name":"a","size":1,"list":[1]}`, "list: element 0"},
		{`{"name":"a","size":1,"namespace":{}}`, "namespace: bdev_name is missing"},
	} {
		var got sample
		err := Decode(json.RawMessage(tc.in), &got, false)
		if err == nil || !strings.Contains(err.Error(), tc.reason) {
			t.Errorf("%s: got %v, want an error about %q", tc.in, err, tc.reason)
		}
	}
	var got sample
	for in, want := range map[string]string{`"\ud83d\ude00"`: "😀", `"\\ud800"`: `\ud800`, `"\ufffd"`: "\ufffd", `"\"\\\/\u00e4"`: `"\/ä`} {
		if err := Decode(json.RawMessage(`{"size":1,"name":`+in+`}`), &got, false); err != nil || got.Name != want {
			t.Errorf("%s: got %q, %v, want %q", in, got.Name, err, want)
		}
	}
	if err := Decode(json.RawMessage(`{"name":"a","size":1,"zzz":1}`), &got, true); err != nil {
		t.Errorf("relaxed: %v", err)
	}
}

// TestDecodeWith asks about members without a field by where they stand.
func TestDecodeWith(t *testing.T) {
	var asked []string
	other := func(at string, value json.RawMessage) (bool, error) {
		asked = append(asked, at+"="+string(value))
		if string(value) == "0" {
			return true, errors.New("0 is bad")
		}
		return at != "namespace.d", nil
	}
	decode := func(more string) error {
		var got sample
		return DecodeWith(json.RawMessage(`{"name":"a","size":1,`+more+`}`), &got, false, other)
	}
	if err := decode(`"b":true,"namespace":{"bdev_name":"n","c":3}`); err != nil {
		t.Error(err)
	}
	if err := decode(`"namespace":{"bdev_name":"n","d":3}`); err == nil || err.Error() != "namespace: d is not a parameter" {
		t.Errorf("an unknown one: %v", err)
	}
	if err := decode(`"namespace":{"bdev_name":"n","e":0}`); err == nil || err.Error() != "namespace: e: 0 is bad" {
		t.Errorf("a bad one: %v", err)
	}
	if d := cmp.Diff([]string{"namespace.c=3", "b=true", "namespace.d=3", "namespace.e=0"}, asked); d != "" {
		t.Error(d)
	}
}

func TestFields(t *testing.T) {
	got := Fields(sample{})
	if len(got) != 8 || got[0] != (Field{"name", "string", false, "a name"}) || got[5].Type != "uuid" || !got[5].Optional ||
		got[6].Type != "array of string" || got[7].Type != "object" {
		t.Errorf("%+v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"a","size":1e3,"list":["a"],"namespace":{"bdev_name":"b","nsid":1}}`))
	f.Add([]byte(`{"name":"a","name":"b"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if !json.Valid(in) {
			return
		}
		var got sample
		if Decode(in, &got, false) == nil && (got.Name == "" && !strings.Contains(string(in), `""`)) {
			t.Errorf("%s decoded without its name", in)
		}
	})
}
