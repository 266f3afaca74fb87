package format

import (
	"fmt"
	"math"
	"syscall"
)

// PageSize is what a metadata page holds, bytes. Pages may lie further apart,
// so that each is a sector of its own on devices with larger sectors: see
// Layout.PageBytes. What lies between them is not used, except in masks.
const PageSize = 4096

// maxPageBytes is the largest distance of two pages.
const maxPageBytes = 64 << 10

// CheckPageBytes returns EINVAL for a metadata page size that is none.
func CheckPageBytes(n uint32) error {
	if n < PageSize || n > maxPageBytes || n&(n-1) != 0 {
		return fmt.Errorf("metadata page size %d is not a power of two from %d to %d: %w", n, PageSize, maxPageBytes, syscall.EINVAL)
	}
	return nil
}

// DefaultClusterSize is the cluster size of a blobstore created without one,
// bytes. An lvstore's default is LvstoreClusterSize.
const (
	DefaultClusterSize = 1 << 20
	LvstoreClusterSize = 4 << 20
)

// DefaultMDRatio is the number of metadata pages an lvstore reserves for each
// 100 clusters.
const DefaultMDRatio = 100

// Layout says where the regions of a blobstore lie. Starts and lengths count
// pages, Total and Data count clusters.
type Layout struct {
	DeviceBytes uint64
	ClusterSize uint32 // bytes
	PageBytes   uint32 // from the start of a page to that of the next

	PageMaskStart, PageMaskLen       uint32
	ClusterMaskStart, ClusterMaskLen uint32
	BlobidMaskStart, BlobidMaskLen   uint32
	MDStart, MDLen                   uint32

	Total uint64 // Clusters of the device
	Meta  uint64 // Clusters at the front that hold the regions above
}

// Data is the number of clusters that blobs can use.
func (l *Layout) Data() uint64 { return l.Total - l.Meta }

// maskHeader is the size of a mask's type and length, bytes.
const maskHeader = 5

// MaskPages is the number of pages a mask of n bits takes.
func (l *Layout) MaskPages(n uint64) uint64 {
	return (maskHeader + (n+7)/8 + uint64(l.PageBytes) - 1) / uint64(l.PageBytes)
}

// Offset is where a page is, counted from the device's start, bytes.
func (l *Layout) Offset(page uint64) uint64 { return page * uint64(l.PageBytes) }

// MDOffset is where a metadata page is, bytes.
func (l *Layout) MDOffset(page uint32) uint64 {
	return l.Offset(uint64(l.MDStart) + uint64(page))
}

// NewLayout lays out a new blobstore of mdPages metadata pages that lie
// pageBytes apart. EINVAL for a cluster size that is not a positive multiple of
// that, or mdPages 0,
// ENOSPC for a device smaller than a cluster, ENOMEM (as SPDK) for one that
// the metadata would fill.
func NewLayout(deviceBytes uint64, clusterSize uint32, mdPages uint64, pageBytes uint32) (Layout, error) {
	if err := CheckPageBytes(pageBytes); err != nil {
		return Layout{}, err
	}
	if clusterSize == 0 || clusterSize%pageBytes != 0 {
		return Layout{}, fmt.Errorf("cluster size %d is not a positive multiple of %d: %w", clusterSize, pageBytes, syscall.EINVAL)
	}
	if mdPages == 0 || mdPages > math.MaxUint32 {
		return Layout{}, fmt.Errorf("%d metadata pages: must be 1 to %d: %w", mdPages, uint32(math.MaxUint32), syscall.EINVAL)
	}
	if deviceBytes < uint64(clusterSize) {
		return Layout{}, fmt.Errorf("device of %d bytes is smaller than a cluster of %d: %w", deviceBytes, clusterSize, syscall.ENOSPC)
	}
	l := Layout{DeviceBytes: deviceBytes, ClusterSize: clusterSize, PageBytes: pageBytes, Total: deviceBytes / uint64(clusterSize)}
	if l.Total > math.MaxUint32 {
		return Layout{}, fmt.Errorf("%d clusters: at most %d; a larger cluster size is needed: %w", l.Total,
			uint32(math.MaxUint32), syscall.EINVAL)
	}
	at := uint64(1)
	place := func(start, length *uint32, pages, reserve uint64) {
		*start, *length = uint32(at), uint32(pages)
		at += max(pages, reserve)
	}
	place(&l.PageMaskStart, &l.PageMaskLen, l.MaskPages(mdPages), 0)
	// The cluster mask has room to grow to as many clusters as there are
	// metadata pages.
	place(&l.ClusterMaskStart, &l.ClusterMaskLen, l.MaskPages(l.Total), l.MaskPages(mdPages))
	place(&l.BlobidMaskStart, &l.BlobidMaskLen, l.MaskPages(mdPages), 0)
	place(&l.MDStart, &l.MDLen, mdPages, 0)
	perCluster := uint64(clusterSize / pageBytes)
	l.Meta = (at + perCluster - 1) / perCluster
	if at > math.MaxUint32 || l.Meta > l.Total {
		return Layout{}, fmt.Errorf("metadata takes %d clusters of %d: larger clusters or fewer metadata pages are needed: %w",
			l.Meta, l.Total, syscall.ENOMEM)
	}
	return l, nil
}

// MDPages is the number of metadata pages of a store with the given number of
// Clusters and ratio (pages per 100 clusters).
func MDPages(clusters uint64, ratio uint32) uint64 { return clusters * uint64(ratio) / 100 }

// DataClusters is the number of data clusters of an lvstore that is created
// with the default metadata ratio on a device of the given size, or 0 when
// the device is too small for one.
func DataClusters(deviceBytes, clusterSize uint64) uint64 {
	if clusterSize == 0 || clusterSize > math.MaxUint32 {
		return 0
	}
	l, err := NewLayout(deviceBytes, uint32(clusterSize), MDPages(deviceBytes/clusterSize, DefaultMDRatio), PageSize)
	if err != nil {
		return 0
	}
	return l.Data()
}

// DeviceBytes is the smallest device size, a multiple of the cluster size,
// whose lvstore has at least dataClusters data clusters with the default
// metadata ratio; 0 when no device can.
func DeviceBytes(dataClusters, clusterSize uint64) uint64 {
	if clusterSize == 0 || clusterSize > math.MaxUint32 || dataClusters > math.MaxUint32 {
		return 0
	}
	// The number of data clusters never falls as the device grows, except
	// where one more page of masks or metadata starts a cluster: then it
	// stays. The search relies on that.
	lo, hi := dataClusters, max(dataClusters, 1)
	for DataClusters(hi*clusterSize, clusterSize) < dataClusters {
		if hi *= 2; hi > math.MaxUint32 {
			return 0
		}
	}
	for lo < hi {
		mid := lo + (hi-lo)/2
		if DataClusters(mid*clusterSize, clusterSize) >= dataClusters {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	// Where one more cluster adds two of metadata (a mask page and a
	// metadata page at once, with tiny clusters) the count may dip: step
	// back over a dip.
	for lo > dataClusters && DataClusters((lo-1)*clusterSize, clusterSize) >= dataClusters {
		lo--
	}
	return lo * clusterSize
}
