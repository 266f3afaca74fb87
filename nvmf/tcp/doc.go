// Package tcp is the socket layer below the NVMe/TCP host and target. What
// the bytes mean (PDUs, digests, commands) is up to those, each for itself;
// how bytes get from memory to a socket and back is here, once.
//
// # Parts
//
//   - Conn is a connection: how it is opened, what is set on it, and the three
//     calls through which all of its bytes go, Recv, RecvData and Send. None of
//     them waits.
//   - Queue is what waits to be sent: headers in an arena, and pieces of the
//     users' buffers, as iovecs that one sendmsg takes.
//   - Input is when to receive: it polls for a while where that pays, sleeps in
//     the runtime's poller, and lends the connection to others that poll while
//     its own goroutine sleeps.
//
// # Who may call
//
// Of a Conn, one goroutine receives and one sends at a time; its user says
// which, by Input's turn and by a lock of its own. Wake, Shutdown and Abort may
// be called by anybody as long as the connection is not closed, and its user
// closes it when neither receives nor sends any more: the calls use the
// descriptor itself, past the runtime's count of users.
//
// # Cost
//
// Nothing is allocated per call. The calls never block, so they go past the
// scheduler: a RawSyscall costs half of a Syscall. Arenas and iovecs grow to
// what was ever needed at once.
//
// # TLS
//
// Nobody else has the descriptor, which a test keeps so (TestOneSocketLayer):
// encryption is a matter of this package alone. Where the kernel does the
// records (kTLS), New is the place: the handshake runs over Read and Write,
// which are for the time before the first Recv, the keys are handed to the
// socket, and Recv, RecvData and Send stay as they are, but for records that
// are not data, which arrive as an error of recvmsg. Where it does not, those
// three calls are what a record layer stands behind.
package tcp
