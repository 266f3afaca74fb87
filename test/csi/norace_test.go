//go:build !race

package csi

// defaultSeeds of TestFaults.
const defaultSeeds = 10
