package vda_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/virtual-disk-array/vda"
)

func TestErrorfWrapsItsCauses(t *testing.T) {
	other := errors.New("other")
	err := vda.Errorf(vda.Unavailable, "read %s: %w, after %w", "da0", io.EOF, other)
	if got, want := err.Error(), "read da0: EOF, after other"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if !errors.Is(err, io.EOF) || !errors.Is(err, other) || vda.KindOf(err) != vda.Unavailable {
		t.Errorf("%v does not wrap its causes", err)
	}
	one := vda.Errorf(vda.NotFound, "no da: %w", io.EOF)
	if one.Error() != "no da: EOF" || !errors.Is(one, io.EOF) {
		t.Errorf("%v does not wrap its cause", one)
	}
	if none := vda.Errorf(vda.NotFound, "no da"); errors.Unwrap(none) != nil {
		t.Errorf("%v wraps %v", none, errors.Unwrap(none))
	}
}

func TestIgnoreNotFound(t *testing.T) {
	gone, other := vda.Errorf(vda.NotFound, "pd %q does not exist", "a"), vda.Errorf(vda.Internal, "the disk is full")
	for _, c := range []struct{ err, want error }{{nil, nil}, {gone, nil}, {fmt.Errorf("set health: %w", gone), nil}, {other, other}} {
		if got := vda.IgnoreNotFound(c.err); got != c.want {
			t.Errorf("of %v: %v", c.err, got)
		}
	}
}
