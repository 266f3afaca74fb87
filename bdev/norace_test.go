//go:build !race

package bdev_test

const qosSeeds = 16
