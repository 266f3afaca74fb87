// Package controller is the Controller service of the CSI driver, over portals. It keeps
// nothing: what there is stands in the cluster, under names that follow from those of
// the orchestrator (package volume), so that any instance can go on with what another
// began, and a call that is repeated finds what it made.
//
// A volume is an array, a publication an exporter per node. Two publications of a volume
// that one node may have at a time are kept apart without a lock: each makes its
// exporter and looks for others then, so that of two at least one sees the other, and
// takes its own away again before its node has heard of it.
//
// Unpublishing is the fence: it succeeds when nothing that the node has sent can land
// any more (DeleteExpRequest.fence).
package controller
