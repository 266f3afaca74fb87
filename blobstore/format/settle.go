package format

// settle decides about snapshots whose making or removal was cut off. Such a
// snapshot names its origin or clone; when that already (or still) has it as
// its parent, the snapshot stays, otherwise it is dropped, without the
// Clusters it shares.
func (im *Image) settle() {
	for _, b := range im.Blobs {
		if b.err != nil {
			continue
		}
		name := XattrSnapshotUnderway
		other := b.internalID(name)
		if removal := b.internalID(XattrRemovalUnderway); removal != NoBlob {
			name, other = XattrRemovalUnderway, removal
		}
		if other == NoBlob {
			continue
		}
		child := im.byID[other]
		if child == nil || child.err != nil || child.Parent() == b.ID {
			im.problem(Note, b.ID, "%s of 0x%x was cut off; the snapshot stays", name, uint64(other))
			im.keepSnapshot(b, child)
			continue
		}
		im.problem(Note, b.ID, "%s of 0x%x was cut off; the snapshot goes", name, uint64(other))
		b.drop = true
	}
	kept := im.Blobs[:0:0]
	for _, b := range im.Blobs {
		if b.drop {
			delete(im.byID, b.ID)
			continue
		}
		kept = append(kept, b)
	}
	for _, b := range im.Blobs {
		if b.drop {
			im.Dropped = append(im.Dropped, b)
		}
	}
	im.Blobs = kept
}

// keepSnapshot makes b a plain snapshot again. SPDK merges the clusters of a
// snapshot into its clone's extent pages before the clone forgets the
// snapshot; those entries are taken back, the clone reads them through the
// snapshot.
func (im *Image) keepSnapshot(b, child *BlobImage) {
	b.SetInternalXattr(XattrSnapshotUnderway, nil)
	b.SetInternalXattr(XattrRemovalUnderway, nil)
	b.DataROFlags |= FlagReadOnly
	b.Rewrite = true
	if child == nil || child.err != nil || !child.Thin() {
		return
	}
	child.Clusters.Each(func(i uint64, cluster uint32) {
		if b.Clusters.At(i) == cluster {
			child.Clusters.Set(i, 0)
			child.Rewrite = true
		}
	})
}

// claim works out which pages and clusters are used, and finds those used
// twice.
func (im *Image) claim() {
	l := &im.Super.Layout
	im.Pages = NewBitmap(uint64(l.MDLen))
	im.Clusters = NewBitmap(l.Total)
	for c := range l.Meta {
		im.Clusters.Set(c)
	}
	for _, b := range im.Blobs {
		for _, p := range b.Chain {
			if !im.Pages.Set(uint64(p)) {
				im.problem(Corrupt, b.ID, "metadata page %d is used twice", p)
			}
		}
		for _, p := range b.Table {
			if p != 0 && uint64(p) < im.Pages.Len() && !im.Pages.Set(uint64(p)) {
				im.problem(Corrupt, b.ID, "metadata page %d is used twice", p)
			}
		}
		b.Clusters.Each(func(i uint64, cluster uint32) {
			if !im.Clusters.Set(uint64(cluster)) {
				im.problem(Corrupt, b.ID, "cluster %d of the blob, %d of the device, is used twice", i, cluster)
			}
		})
		im.checkParent(b)
	}
}

// checkParent finds parents that do not exist and circles of them.
func (im *Image) checkParent(b *BlobImage) {
	if unknown := b.InvalidFlags &^ knownInvalidFlags; unknown != 0 {
		im.problem(Unusable, b.ID, "it has flags 0x%x that this version does not know", unknown)
	}
	walked := map[*BlobImage]bool{}
	for at := b; !at.rooted; {
		if walked[at] {
			im.problem(Unusable, b.ID, "its parents form a circle")
			return
		}
		walked[at] = true
		p := at.Parent()
		if p == NoBlob || p == ExternalParent {
			break
		}
		next := im.byID[p]
		if next == nil {
			im.problem(Unusable, b.ID, "the parent 0x%x of 0x%x is missing", uint64(p), uint64(at.ID))
			return
		}
		at = next
	}
	for w := range walked {
		w.rooted = true
	}
	if b.Parent() == ExternalParent && b.InternalXattr(XattrExternalParent) == nil {
		im.problem(Unusable, b.ID, "its parent is outside the store and has no name")
	}
}
