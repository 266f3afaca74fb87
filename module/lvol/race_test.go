//go:build race

package lvol

const raceEnabled = true
