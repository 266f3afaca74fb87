// Package nvme holds the wire formats of NVM Express over TCP: submission and
// completion entries, Fabrics commands, identify structures, log pages and
// NVMe/TCP PDUs. It is pure: bytes in, values out, no sockets, no clocks.
// Every decoder takes hostile input and returns an error, never panics.
//
// Section numbers refer to the NVM Express Base Specification 2.0, the NVM
// Command Set Specification 1.0 and the NVMe/TCP Transport Specification 1.0.
package nvme
