// Package controlplane tests the whole control plane in one process: portal,
// monitors and agents as they are, gRPC over loopback between them, a real
// database; only the data planes are models. It is for what takes more nodes
// or arrays than a machine can run data planes for, or a database that fails.
package controlplane
