//go:build race

package controlplane

// many is how many arrays TestManyArraysOnOneDeadNode has by default. Agents read lists of all
// that there is for each, and the race detector makes that some ten times as slow:
// test/all.sh runs it without, too.
const many = 40
