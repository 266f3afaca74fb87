//go:build race

package csi

// defaultSeeds of TestFaults. A seed takes 10 seconds of a processor with the race detector,
// and 1.5 without: control planes, data planes and nodes run in this process, and cost 0.15
// of a processor when nothing is asked of them.
const defaultSeeds = 4
