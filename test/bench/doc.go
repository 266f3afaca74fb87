// Command bench measures the data plane: vda_tgt, with spdk_tgt beside it
// when SPDK_TGT names the binary, through spdk_nvme_perf when SPDK_PERF names
// that one and through the product's own initiator otherwise.
//
// Target and initiator have a core each. The targets take turns within one
// run, several times, and medians are compared: the machine's speed drifts,
// ratios of neighbours do not. It judges nothing; it prints what it measured.
package main
