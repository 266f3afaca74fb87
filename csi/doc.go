// Package csi is vda_csi, the driver of the Container Storage Interface: it puts the
// services of packages controller and node on a socket, with Identity, a log line and
// metrics for each call. Package volume has what the services have to agree on, package
// linux the node's kernel.
package csi
