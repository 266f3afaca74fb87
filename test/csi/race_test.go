//go:build race

package csi

// defaultSeeds of TestFaults. A seed takes 25 seconds of a processor with the race detector,
// and 1.5 without: control planes, data planes and nodes run in this process.
const defaultSeeds = 4
