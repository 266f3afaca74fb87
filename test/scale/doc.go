// Package scale asks what one change costs in a large cluster: the real vda_portal and
// vda_monitor as processes, on a real PostgreSQL that counts its statements, above agents
// that are models, in processes of up to 2,500 each. Each model is syncer/fakeagent's, which the
// conformance suite of agents holds to the truth, behind a listener of its own on
// 127.0.0.0/8; its data plane says yes after a millisecond.
//
// TestCostOfAChange is in every run of make test: it compares a small cluster with a
// larger one by statements and rows, not by time. TestSteps measures time, processor and
// memory as well, for make scale-sim; its tables are in docs/scale.md.
//
// Everything here has the build tag e2e.
package scale
