// Package check verifies the metadata of a blobstore, such as an lvstore,
// without running it and without writing to it.
//
// The device must not be in use by a running store: what that has not written
// yet would look like damage.
package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// Report is what a check found.
type Report struct {
	Type        string // of the blobstore; blobstore.LvstoreType for an lvstore
	Name, UUID  string // of the lvstore
	Clean       bool   // it was unloaded, not just left
	ClusterSize uint32 // bytes
	DataTotal   uint64 // data clusters
	DataFree    uint64
	PagesTotal  uint32 // metadata pages
	PagesUsed   uint64
	Blobs       []Blob
	Problems    []format.Problem
}

// Blob is one blob of a report.
type Blob struct {
	ID        format.BlobID
	Name      string // of the lvol; empty for the lvstore's own blob
	UUID      string
	Clusters  uint64
	Allocated uint64
	Thin      bool
	ReadOnly  bool
	Parent    format.BlobID // NoBlob: none
}

// Healthy reports that a load would find nothing to complain about; what a
// power cut leaves behind is no complaint.
func (r *Report) Healthy() bool {
	return !slices.ContainsFunc(r.Problems, func(p format.Problem) bool { return p.Severity > format.Note })
}

// Store checks the blobstore on a device. The error is of the device, or says
// that there is no blobstore (EILSEQ) or one of a kind that is not supported
// (EINVAL); damage is in the report.
func Store(h *bdev.Handle) (*Report, error) {
	im, err := blobstore.ReadImage(h, "")
	if err != nil {
		return nil, err
	}
	l := im.Super.Layout
	r := &Report{
		Type: im.Super.Type, Clean: im.Super.Clean, ClusterSize: l.ClusterSize,
		DataTotal: l.Data(), DataFree: im.Clusters.Free(), PagesTotal: l.MDLen, PagesUsed: im.Pages.Used(),
		Problems: im.Problems,
	}
	for _, b := range im.Blobs {
		r.Blobs = append(r.Blobs, Blob{
			ID: b.ID, Name: value(b, "name"), UUID: value(b, "uuid"), Clusters: b.Metadata.Clusters,
			Allocated: b.Allocated(), Thin: b.Thin(), ReadOnly: b.ReadOnly(), Parent: b.Parent(),
		})
	}
	masks, err := blobstore.CheckMasks(h, im)
	if err != nil {
		return nil, err
	}
	r.Problems = append(r.Problems, masks...)
	if r.Type == format.LvstoreType {
		r.lvstore(im)
	}
	return r, nil
}

// value reads a string that SPDK stores with a zero at its end.
func value(b *format.BlobImage, name string) string {
	for _, x := range b.Xattrs {
		if x.Name == name {
			s, _, _ := strings.Cut(string(x.Value), "\x00")
			return s
		}
	}
	return ""
}

// lvstore checks what makes a blobstore an lvstore: a super blob with name
// and UUID, and volumes with names and UUIDs of their own.
func (r *Report) lvstore(im *format.Image) {
	problem := func(id format.BlobID, text string, args ...any) {
		r.Problems = append(r.Problems, format.Problem{Severity: format.Unusable, Blob: id, Text: fmt.Sprintf(text, args...)})
	}
	super := im.Blob(im.Super.SuperBlob)
	if super == nil {
		problem(format.NoBlob, "the lvstore's own blob 0x%x is missing", uint64(im.Super.SuperBlob))
		return
	}
	r.Name, r.UUID = value(super, "name"), value(super, "uuid")
	if r.Name == "" || r.UUID == "" {
		problem(super.ID, "the lvstore has no name or UUID")
	}
	names, uuids := map[string]format.BlobID{}, map[string]format.BlobID{}
	for _, b := range im.Blobs {
		if b == super {
			continue
		}
		name, id := value(b, "name"), value(b, "uuid")
		if name == "" {
			problem(b.ID, "the lvol has no name")
		} else if other, ok := names[name]; ok {
			problem(b.ID, "the lvol has the name %q of 0x%x", name, uint64(other))
		}
		if other, ok := uuids[id]; ok && id != "" {
			problem(b.ID, "the lvol has the UUID %s of 0x%x", id, uint64(other))
		}
		names[name], uuids[id] = b.ID, b.ID
	}
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	state := "left without an unload"
	if r.Clean {
		state = "unloaded"
	}
	fmt.Fprintf(&b, "%s %q %s, %s\n", strings.ToLower(r.Type), r.Name, r.UUID, state)
	fmt.Fprintf(&b, "%d of %d data clusters of %d bytes free, %d of %d metadata pages used\n", r.DataFree, r.DataTotal, r.ClusterSize,
		r.PagesUsed, r.PagesTotal)
	for _, x := range r.Blobs {
		if x.Name == r.Name && x.UUID == r.UUID {
			continue
		}
		kind := "thick"
		if x.Thin {
			kind = "thin"
		}
		if x.ReadOnly {
			kind += ", read only"
		}
		if x.Parent != format.NoBlob {
			kind += fmt.Sprintf(", clone of 0x%x", uint64(x.Parent))
		}
		fmt.Fprintf(&b, "  0x%x %q %s: %d of %d clusters, %s\n", uint64(x.ID), x.Name, x.UUID, x.Allocated, x.Clusters, kind)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(&b, p)
	}
	if r.Healthy() {
		fmt.Fprintln(&b, "healthy")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// IsNoStore reports that the device simply holds no blobstore.
func IsNoStore(err error) bool { return errors.Is(err, syscall.EILSEQ) }
