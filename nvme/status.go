package nvme

import "fmt"

// Status is the status field of a completion queue entry without the phase
// bit (NVM Express base 2.0, section 4.2.3): status code in bits 7:0, status
// code type in bits 10:8, do-not-retry in bit 14. Zero is success.
type Status uint16

// DNR tells the host that the same command would fail again.
const DNR Status = 1 << 14

// Generic command status (type 0).
const (
	Success              Status = 0x000
	InvalidOpcode        Status = 0x001
	InvalidField         Status = 0x002
	CommandIDConflict    Status = 0x003
	DataTransferError    Status = 0x004
	PowerLossAbort       Status = 0x005
	InternalError        Status = 0x006
	AbortRequested       Status = 0x007
	AbortSQDeletion      Status = 0x008
	AbortFailedFused     Status = 0x009
	AbortMissingFused    Status = 0x00a
	InvalidNamespace     Status = 0x00b
	CommandSequenceError Status = 0x00c
	InvalidSGLDescriptor Status = 0x00d
	InvalidSGLCount      Status = 0x00e
	DataSGLLengthInvalid Status = 0x00f
	SGLTypeInvalid       Status = 0x011
	InvalidSGLOffset     Status = 0x016
	HostIDInconsistent   Status = 0x018
	KeepAliveExpired     Status = 0x019
	KeepAliveInvalid     Status = 0x01a
	WriteProtected       Status = 0x020 // the namespace takes no writes
	CommandInterrupted   Status = 0x021
	TransientTransport   Status = 0x022
	HostIDNotSet         Status = 0x027 // a reservation command of a host whose id is 0
	LBAOutOfRange        Status = 0x080
	CapacityExceeded     Status = 0x081
	NamespaceNotReady    Status = 0x082
	ReservationConflict  Status = 0x083
	FormatInProgress     Status = 0x084
)

// Command specific status (type 1).
const (
	InvalidQueueID         Status = 0x101
	InvalidQueueSize       Status = 0x102
	AbortLimitExceeded     Status = 0x103
	AsyncEventLimit        Status = 0x105
	InvalidLogPage         Status = 0x109
	FeatureNotSaveable     Status = 0x10d
	FeatureNotChangeable   Status = 0x10e
	ConnectIncompatible    Status = 0x180
	ConnectControllerBusy  Status = 0x181
	ConnectInvalidParam    Status = 0x182
	ConnectRestart         Status = 0x183
	ConnectInvalidHost     Status = 0x184
	InvalidQueueType       Status = 0x185
	DiscoverRestart        Status = 0x190
	AuthenticationRequired Status = 0x191
)

// Media and data integrity errors (type 2).
const (
	WriteFault              Status = 0x280
	UnrecoveredReadError    Status = 0x281
	CompareFailure          Status = 0x285
	DeallocatedReadDisabled Status = 0x287
)

// Path related status (type 3): the command may succeed on another path.
const (
	InternalPathError  Status = 0x300
	ANAPersistentLoss  Status = 0x301
	ANAInaccessible    Status = 0x302
	ANATransition      Status = 0x303
	ControllerPathErr  Status = 0x360
	HostPathError      Status = 0x370
	HostAbortedCommand Status = 0x371
)

// Type returns the status code type.
func (s Status) Type() uint8 { return uint8(s>>8) & 7 }

// Code returns the status code.
func (s Status) Code() uint8 { return uint8(s) }

// IsPath reports a path related status, which multipath retries elsewhere.
func (s Status) IsPath() bool { return s.Type() == 3 }

// Retryable reports whether the host may send the same command again.
func (s Status) Retryable() bool { return s != Success && s&DNR == 0 }

// Error makes a failed Status usable as an error; never use it for Success.
func (s Status) Error() string { return "nvme status " + s.String() }

func (s Status) String() string {
	name, ok := statusNames[s&0x7ff]
	if !ok {
		name = "unknown"
	}
	dnr := ""
	if s&DNR != 0 {
		dnr = " DNR"
	}
	return fmt.Sprintf("%s (sct 0x%x / sc 0x%02x%s)", name, s.Type(), s.Code(), dnr)
}

var statusNames = map[Status]string{
	Success:                "success",
	InvalidOpcode:          "invalid command opcode",
	InvalidField:           "invalid field in command",
	CommandIDConflict:      "command id conflict",
	DataTransferError:      "data transfer error",
	InternalError:          "internal error",
	AbortRequested:         "command abort requested",
	AbortSQDeletion:        "command aborted due to SQ deletion",
	AbortFailedFused:       "aborted, failed fused command",
	AbortMissingFused:      "aborted, missing fused command",
	InvalidNamespace:       "invalid namespace or format",
	CommandSequenceError:   "command sequence error",
	WriteProtected:         "namespace is write protected",
	CommandInterrupted:     "command interrupted",
	TransientTransport:     "transient transport error",
	LBAOutOfRange:          "LBA out of range",
	CapacityExceeded:       "capacity exceeded",
	NamespaceNotReady:      "namespace not ready",
	ReservationConflict:    "reservation conflict",
	ConnectInvalidParam:    "connect invalid parameters",
	ConnectInvalidHost:     "connect invalid host",
	ConnectControllerBusy:  "connect controller busy",
	AuthenticationRequired: "authentication required",
	WriteFault:             "write fault",
	UnrecoveredReadError:   "unrecovered read error",
	CompareFailure:         "compare failure",
	InternalPathError:      "internal path error",
	ANAPersistentLoss:      "asymmetric access persistent loss",
	ANAInaccessible:        "asymmetric access inaccessible",
	ANATransition:          "asymmetric access transition",
	ControllerPathErr:      "controller pathing error",
	HostPathError:          "host pathing error",
	HostAbortedCommand:     "command aborted by host",
}
