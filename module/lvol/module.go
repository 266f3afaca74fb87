package lvol

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// nameMax is the size of a name on disk with its terminating zero, bytes.
const nameMax = 64

// claimName is what a base device is claimed by.
const claimName = "lvol"

// Module holds the lvstores of a registry.
type Module struct {
	reg *bdev.Registry
	log *slog.Logger

	mu       sync.Mutex
	stores   []*Store
	reserved map[string]bool // names of stores being made or loaded
}

// New returns a module without stores.
func New(c Config) *Module {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Module{reg: c.Registry, log: c.Log, reserved: map[string]bool{}}
}

// checkName refuses a name that does not fit the disk.
func checkName(what, name string) error {
	if name == "" || len(name) >= nameMax || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%s %q has %d bytes, want 1 to %d: %w", what, name, len(name), nameMax-1, syscall.EINVAL)
	}
	return nil
}

// reserve takes the name of a store until the returned function is called.
func (m *Module) reserve(name string) (func(), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.reserved[name]
	for _, st := range m.stores {
		taken = taken || st.name == name
	}
	if taken {
		return nil, fmt.Errorf("lvstore %q: %w", name, syscall.EEXIST)
	}
	m.reserved[name] = true
	return func() {
		m.mu.Lock()
		delete(m.reserved, name)
		m.mu.Unlock()
	}, nil
}

// CreateStore makes an lvstore on a device; what was on it is lost. EINVAL
// for bad names and sizes, ENODEV and EPERM for a device that is missing or
// claimed, EEXIST when another store has the name, ENOSPC or ENOMEM for a
// device that is too small.
func (m *Module) CreateStore(bdevName, name string, o StoreOpts) (*Store, error) {
	if err := checkName("lvs_name", name); err != nil {
		return nil, err
	}
	if o.MDPageSize != 0 {
		if err := format.CheckPageBytes(o.MDPageSize); err != nil {
			return nil, fmt.Errorf("md_page_size: %w", err)
		}
	}
	if o.ClusterSize == 0 {
		o.ClusterSize = format.LvstoreClusterSize
	}
	if o.MDRatio == 0 {
		o.MDRatio = format.DefaultMDRatio
	}
	if o.UUID == uuid.Nil {
		o.UUID = uuid.New()
	}
	st := &Store{m: m, uuid: o.UUID, name: name}
	release, err := st.begun(bdevName, func() (func(), error) {
		if err := st.base.Claim(claimName); err != nil {
			return nil, err
		}
		release, err := m.reserve(name)
		if err == nil {
			if err = st.format(o); err != nil {
				release()
			}
		}
		return release, err
	})
	if err != nil {
		return nil, err
	}
	defer release()
	return st, m.add(st)
}

// begun opens the base device and runs how, with the store's own lock held so
// that a removal of the device waits.
func (s *Store) begun(bdevName string, how func() (func(), error)) (func(), error) {
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.open(bdevName); err != nil {
		return nil, err
	}
	release, err := how()
	if err != nil {
		s.base.Close()
	}
	return release, err
}

func (s *Store) format(o StoreOpts) error {
	i := s.base.Info()
	if o.ClusterSize < i.BlockSize || o.ClusterSize%i.BlockSize != 0 {
		return fmt.Errorf("cluster_sz %d is not a multiple of the block size %d: %w", o.ClusterSize, i.BlockSize, syscall.EINVAL)
	}
	clusters := i.Blocks * uint64(i.BlockSize) / uint64(o.ClusterSize)
	bs, err := blobstore.Format(s.base, blobstore.Config{
		Type:        format.LvstoreType,
		ClusterSize: o.ClusterSize,
		PageBytes:   o.MDPageSize,
		MDPages:     format.MDPages(clusters, o.MDRatio),
		Clear:       o.Clear,
	})
	if err != nil {
		return late(err)
	}
	super, err := bs.CreateBlob(blobstore.BlobConfig{Xattrs: []format.Xattr{
		{Name: "uuid", Value: cString(o.UUID.String())},
		{Name: "name", Value: cString(s.name)},
	}})
	if err == nil {
		err = bs.SetSuperBlob(super.ID())
	}
	if err != nil {
		bs.Close()
		return late(err)
	}
	s.bs, s.super = bs, super
	return nil
}

// add makes the store known, unless its base device went away meanwhile.
func (m *Module) add(st *Store) error {
	m.mu.Lock()
	m.stores = append(m.stores, st)
	m.mu.Unlock()
	if st.base.Removed() {
		st.hotRemove()
		m.forget(st)
		return late(fmt.Errorf("bdev %q is gone: %w", st.base.Info().Name, syscall.ENODEV))
	}
	return nil
}

func (m *Module) forget(st *Store) {
	m.mu.Lock()
	m.stores = slices.DeleteFunc(m.stores, func(s *Store) bool { return s == st })
	m.mu.Unlock()
}

// ErrDamaged says that a device carries an lvstore that cannot be relied on; it is EILSEQ.
var ErrDamaged = blobstore.ErrDamaged

// Examine looks for an lvstore on a device, loads it and registers its
// volumes; external clones of the device that lacked it are registered, too. EILSEQ: there
// is none; ErrDamaged; ENXIO: a blobstore that is no lvstore; EEXIST: a store with its name
// is loaded already; ENODEV, EPERM as ever. Nothing is written before something is changed.
func (m *Module) Examine(bdevName string) (*Store, error) {
	m.appeared(bdevName)
	st := &Store{m: m}
	release, err := st.begun(bdevName, st.load)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := m.add(st); err != nil {
		return nil, err
	}
	st.registerAll()
	return st, nil
}

func (s *Store) load() (release func(), err error) {
	// Most devices hold no lvstore; those are not claimed even for a moment.
	if err := blobstore.Probe(s.base, format.LvstoreType); err != nil {
		return nil, err
	}
	if err := s.base.Claim(claimName); err != nil {
		return nil, err
	}
	bs, err := blobstore.Load(s.base, format.LvstoreType, s.m.log)
	if err != nil {
		return nil, err
	}
	super, err := bs.Blob(bs.SuperBlob())
	if err != nil {
		bs.Close()
		return nil, fmt.Errorf("the lvstore has no super blob: %w", syscall.ENODEV)
	}
	s.bs, s.super = bs, super
	if s.uuid, s.name, err = identity(super); err == nil {
		release, err = s.m.reserve(s.name)
	}
	if err != nil {
		bs.Close()
		return nil, err
	}
	return release, nil
}

// identity reads an lvstore's UUID and name.
func identity(super *blobstore.Blob) (uuid.UUID, string, error) {
	v, _ := super.Xattr("uuid")
	id, err := uuid.Parse(goString(v))
	if err != nil {
		return id, "", fmt.Errorf("the lvstore's uuid is %q: %w", v, syscall.EINVAL)
	}
	v, ok := super.Xattr("name")
	if !ok || len(v) > nameMax {
		return id, "", fmt.Errorf("the lvstore's name is %q: %w", v, syscall.EINVAL)
	}
	return id, goString(v), nil
}

// Stores returns all stores in the order in which they came.
func (m *Module) Stores() []*Store {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.stores)
}

// Store finds a store by name or UUID.
func (m *Module) Store(nameOrUUID string) (*Store, bool) {
	for _, st := range m.Stores() {
		if st.Name() == nameOrUUID || st.uuid.String() == strings.ToLower(nameOrUUID) {
			return st, true
		}
	}
	return nil, false
}

// StoreOn finds the store whose base device has the name.
func (m *Module) StoreOn(bdevName string) (*Store, bool) {
	i, ok := m.reg.Info(bdevName)
	for _, st := range m.Stores() {
		if base := st.base.Info().Name; base == bdevName || (ok && base == i.Name) {
			return st, true
		}
	}
	return nil, false
}

// Volume finds a volume by its bdev's name, UUID or alias.
func (m *Module) Volume(name string) (*Volume, bool) {
	if d, ok := m.reg.Get(name); ok {
		v, ok := d.(*Volume)
		return v, ok
	}
	for _, st := range m.Stores() { // a degraded one has no bdev
		for _, v := range st.Volumes() {
			if v.Alias() == name || strings.EqualFold(v.bdevName, name) {
				return v, true
			}
		}
	}
	return nil, false
}

// Close unloads all stores.
func (m *Module) Close() error {
	var errs []error
	for _, st := range m.Stores() {
		errs = append(errs, st.Unload())
	}
	return errors.Join(errs...)
}

// cString is a value as SPDK stores it: with a zero at the end.
func cString(s string) []byte { return append([]byte(s), 0) }

// goString reads such a value.
func goString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
