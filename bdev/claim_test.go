package bdev_test

import (
	"errors"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/null"
)

func TestSharedClaimIsForOneModule(t *testing.T) {
	reg := bdev.NewRegistry()
	d, err := null.New(null.Config{Name: "n0", BlockSize: 4096, Blocks: 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	open := func() *bdev.Handle {
		t.Helper()
		h, err := reg.Open("n0", func(bdev.EventKind) {})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	a, b, c := open(), open(), open()
	if err := errors.Join(a.ClaimShared("x"), b.ClaimShared("x")); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{c.Claim("x"), c.Claim("y"), c.ClaimShared("y")} {
		if !errors.Is(err, bdev.ErrClaimed) {
			t.Errorf("%v, want %v", err, bdev.ErrClaimed)
		}
	}
	a.Close()
	if by := reg.ClaimedBy("n0"); by != "x" {
		t.Errorf("claimed by %q while one holds it", by)
	}
	b.Release()
	if err := c.Claim("y"); err != nil {
		t.Error(err)
	}
	if err := b.ClaimShared("y"); !errors.Is(err, bdev.ErrClaimed) {
		t.Errorf("an exclusive claim is shared: %v", err)
	}
}
