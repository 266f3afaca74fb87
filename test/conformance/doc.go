// Package conformance checks that a data plane keeps the contract of VDA's
// agents: SPDK's JSON-RPC, and NVMe/TCP as hosts need it. The same suite runs
// against vda_tgt, which it builds, and against the spdk_tgt that the
// environment variable SPDK_TGT names (its libraries found by
// LD_LIBRARY_PATH, extra arguments in SPDK_ARGS), so that every expectation
// is known to be true of SPDK itself.
//
// # Exchanges
//
// Each file of testdata is a conversation with a fresh data plane:
//
//	# What is being shown.
//	> {"method":"bdev_malloc_create","params":{"block_size":1000,"num_blocks":10}}
//	< {"error":{"code":-22,"message":"Invalid argument"}}
//
// The reply must have at least the members given, with those values; an array
// must have the same elements. "<uuid>", "<int>" and "<any>" stand for any
// value of that kind. $DIR is a directory of the test's with a
// file aio0 of 16 MiB, $PORT, $PORT2 … are free TCP ports.
//
// A request after >> is sent as it stands, on a connection of its own; what
// comes back is given line by line after <<, or "<< nothing", or "<< closed"
// when the connection must end; "<< vda" and "<< spdk" where they differ.
//
// Where the two data planes differ, there is a reply for each, and the line
// before says why; that is the list of differences:
//
//	# vda_tgt refuses what SPDK crashes on.
//	< spdk {"result":true}
//	< vda {"error":{"code":-22}}
//
// # SPDK's own client
//
// Where SPDK_RPC names SPDK's rpc.py, it is given the command lines of
// testdata/rpcpy, which call every method but ours.
//
// # Members that differ
//
// The replies to bdev_get_bdevs and its like are compared in the members that
// both have alike. The others:
//
//   - spdk_get_version: version and suffix end in -vda on vda_tgt.
//   - supported_io_types: copy, abort, seek_hole and seek_data are false on
//     vda_tgt, which has no such operation; nvme_admin and nvme_io, because it
//     passes no raw commands on. compare, compare_and_write, flush and unmap
//     are true on bdevs where SPDK lacks them; a handle emulates the first two,
//     and zcopy is true wherever blocks are memory of the process.
//   - claim_type of an lvstore's base: exclusive_write rather than
//     read_many_write_one; there are no external snapshots.
//   - preferred_write_alignment and its like are 0; optimal_write_size of a
//     raid0 is its stripe.
//   - memory_domains, numa_id of lvol and nvme bdevs, max_growable_size of an
//     lvstore, dmrsl and wzsl of a subsystem and the transport's members about
//     pools and pollers describe what vda_tgt does not have.
//   - model_number defaults to "VDA Controller".
//   - is_snapshot of a snapshot whose last clone has been inflated is false on
//     vda_tgt and true on SPDK.
//   - bdev_nvme_get_io_paths lists the paths of all nvme bdevs as one poll group;
//     SPDK those in use, by thread. framework_get_reactors has one entry, and
//     framework_get_subsystems the two parts that have a configuration.
//   - ticks are nanoseconds; SPDK's are cycles of the processor.
//   - Error objects have a member data that says what was wrong.
//
// A file that begins with "start wait-for-rpc" finds the data plane in the
// start-up state; otherwise it is running, with automatic examination off.
package conformance
