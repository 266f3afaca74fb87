package program

import (
	"slices"
	"testing"
)

func TestPrivateFlagsAreCovered(t *testing.T) {
	flags := map[string]func(string) string{"enrol": Covered}
	for _, c := range []struct{ args, want []string }{
		{[]string{"--port", "1"}, nil},
		{[]string{"--enrol", "s3cret", "--port", "1"}, []string{"--enrol", "xxxxxx", "--port", "1"}},
		{[]string{"--port=1", "--enrol=s3cret"}, []string{"--port=1", "--enrol=xxxxxx"}},
		{[]string{"--enrol"}, nil},
		{[]string{"--enrolled", "s"}, nil},
		{[]string{"--", "--enrol", "s"}, nil},
	} {
		was := slices.Clone(c.args)
		if got := maskArgs(c.args, flags); !slices.Equal(got, c.want) {
			t.Errorf("%q is shown as %q, want %q", c.args, got, c.want)
		}
		if !slices.Equal(was, c.args) {
			t.Errorf("%q was changed to %q", was, c.args)
		}
	}
}
