//go:build race

package bdev_test

// qosSeeds of TestQoSInAnyTenSeconds: test/all.sh runs it without the race detector, too,
// which makes a seed some ten times as slow.
const qosSeeds = 3
