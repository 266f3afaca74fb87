// Package httpd is what every VDA program serves over HTTP: GET /metrics for
// Prometheus, from a registry of the program's own, and GET /healthz for load
// balancers and supervisors. It links no gRPC: vda_tgt serves it alone; package
// rpc serves it on the port of a gRPC daemon.
package httpd
