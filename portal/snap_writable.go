package portal

import (
	"strings"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// writableOrigin is the snapshot that a writable one is to be made of.
func writableOrigin(tx store.Reader, da *vda.DA, name string) (*vda.Snap, error) {
	snap, err := findSnapOf(tx, da, name)
	switch {
	case err != nil:
		return nil, err
	case strings.HasPrefix(snap.Name, vda.ClonePrefix):
		return nil, vda.Errorf(vda.FailedPrecondition, "snap %s of da %s was taken for a clone, and goes with it; take a snapshot of your own "+
			"first", snap.Name, da.Name)
	case snap.Writable():
		return nil, vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is writable; a writable snapshot is made of one that is not: give the "+
			"snapshot that it was made of, or another", snap.Name, da.Name)
	case snap.State != vda.SnapTaken:
		return nil, vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is not taken yet: snap get says when it is", snap.Name, da.Name)
	}
	return snap, nil
}

// verb is what is done to have a snapshot.
func verb(snap *vda.Snap) string {
	if snap.Writable() {
		return "made"
	}
	return "taken"
}

// clonesOfSnap are the names of the writable snapshots that were made of one.
func clonesOfSnap(tx store.Reader, snap *vda.Snap) (names []string, err error) {
	snaps, err := tx.SnapsOfDA(snap.DAID)
	for i := range snaps {
		if c := &snaps[i]; c.Live() && c.CloneOf == snap.ID {
			names = append(names, c.Name)
		}
	}
	return names, err
}

// showOrigins fills in of what writable snapshots were made.
func showOrigins(tx store.Reader, rows []vda.Snap, msgs []*apiv1.SnapMsg) error {
	names := map[string]string{}
	for i := range rows {
		id := rows[i].CloneOf
		if id == "" {
			continue
		}
		if _, known := names[id]; !known {
			of, err := tx.Snap(id)
			if vda.IgnoreNotFound(err) != nil {
				return err
			}
			if err == nil {
				names[id] = of.Name
			}
		}
		msgs[i].FromSnap = names[id]
	}
	return nil
}
