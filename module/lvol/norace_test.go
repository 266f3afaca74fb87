//go:build !race

package lvol

const raceEnabled = false
