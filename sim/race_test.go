//go:build race

package sim

// defaultSeeds of TestSeeds: the race detector makes a seed some ten times as slow,
// and two of them run every daemon's code under it.
const defaultSeeds = 2
