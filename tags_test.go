package vda

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestChangeLabels(t *testing.T) {
	long := strings.Repeat("a", 63)
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("k%d=", i)
	}
	for _, c := range []struct {
		old     string
		changes []string
		want    string // the labels, or what the refusal says
		bad     bool
	}{
		{changes: []string{"b=2", "a=1", "c="}, want: "a=1 b=2 c="},
		{old: "a=1", changes: []string{"a=2"}, want: "a=2"},
		{old: "a=1", changes: []string{"a-", "none-"}},
		{old: "a=1", changes: []string{"a=1", "a=1"}, want: "a=1"},
		{changes: []string{"example.com/a.b-c_D9=X.y-z_9"}, want: "example.com/a.b-c_D9=X.y-z_9"},
		{changes: []string{long + "=" + long}, want: long + "=" + long},
		{changes: []string{"a"}, bad: true, want: `label "a" is neither KEY=VALUE, which sets a label, nor KEY-, which removes one`},
		{changes: []string{"a=1", "a-"}, bad: true, want: `label is "a=1" and "a-": give the key a once`},
		{changes: []string{"=1"}, bad: true, want: `label "=1": the key "" must be 1 to 63 letters`},
		{changes: []string{"-a=1"}, bad: true, want: `the key "-a"`},
		{changes: []string{"a.=1"}, bad: true, want: `the key "a."`},
		{changes: []string{"ä=1"}, bad: true, want: `the key "ä"`},
		{changes: []string{"a=ä"}, bad: true, want: `the value "ä" must be empty, or 1 to 63 letters`},
		{changes: []string{"a=1-"}, bad: true, want: `the value "1-"`},
		{changes: []string{"a=b c"}, bad: true, want: `the value "b c"`},
		{changes: []string{"a=b=c"}, bad: true, want: `the value "b=c"`},
		{changes: []string{long + "a=1"}, bad: true, want: "must be 1 to 63"},
		{changes: []string{"Example.com/a=1"}, bad: true, want: "a domain name in lower case"},
		{changes: []string{"/a=1"}, bad: true, want: "before the slash"},
		{changes: []string{"a..b/c=1"}, bad: true, want: "before the slash"},
		{changes: []string{strings.Repeat("a.", 127) + "/c=1"}, bad: true, want: "253 bytes"},
		{changes: []string{"example.com/=1"}, bad: true, want: `the key "example.com/"`},
		{changes: []string{"a/b/c=1"}, bad: true, want: `the key "a/b/c"`},
		{changes: many, bad: true, want: "65 labels; 64 are the most"},
	} {
		var tags Tags
		if c.old != "" {
			if err := tags.ChangeLabels([]string{c.old}); err != nil {
				t.Fatal(err)
			}
		}
		before := maps.Clone(tags.Labels)
		err := tags.ChangeLabels(c.changes)
		if c.bad {
			if err == nil || KindOf(err) != InvalidArgument || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%.40q: %v, want %q", c.changes, err, c.want)
			}
			if !maps.Equal(tags.Labels, before) {
				t.Errorf("%.40q: refused, and changed to %v", c.changes, tags.Labels)
			}
			continue
		}
		if got := strings.Join(tags.LabelList(), " "); err != nil || got != c.want {
			t.Errorf("%q to %q: %q, %v, want %q", c.old, c.changes, got, err, c.want)
		}
	}
}

func TestNewTags(t *testing.T) {
	for text, want := range map[string]string{
		strings.Repeat("x", 1025): "description is 1025 bytes long; 1024 are the most",
		"a\x00":                   "control character U+0000",
		"\xff":                    "not valid UTF-8",
	} {
		if _, err := NewTags(nil, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
	if tags, err := NewTags([]string{"a=1"}, "two\nlines\tand ü"); err != nil || tags.Empty() {
		t.Errorf("%v, %v", tags, err)
	}
	if _, err := NewTags([]string{"a-"}, ""); err == nil || !strings.Contains(err.Error(), `label "a-" removes the label a, which a new object`) {
		t.Errorf("a new object without a label: %v", err)
	}
}

func TestParseLabelMatches(t *testing.T) {
	got, err := ParseLabelMatches([]string{"a=1", "b!=2", "c", "!d", "e="})
	want := []LabelMatch{{Key: "a", Value: "1"}, {Key: "b", Value: "2", Not: true}, {Key: "c", Any: true},
		{Key: "d", Any: true, Not: true}, {Key: "e"}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got[i], want[i])
		}
	}
	for _, text := range []string{"", "!", "=", "a-", "!a=1", "a=%", "a b"} {
		if m, err := ParseLabelMatches([]string{text}); err == nil {
			t.Errorf("%q selects %v", text, m)
		}
	}
}
