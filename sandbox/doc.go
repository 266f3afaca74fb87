// Package sandbox runs a whole cluster as separate processes on 127.0.0.1 and
// proves it with I/O: what a newcomer runs first, and what CI runs last.
//
// Everything it makes is below one temporary directory, on free ports, and
// ends with it: a process of the cluster dies with the sandbox even when the
// sandbox is killed.
package sandbox
