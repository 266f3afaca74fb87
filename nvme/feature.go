package nvme

// FID selects a feature (base 2.0, figure 317).
type FID uint8

// The features.
const (
	FeatureArbitration   FID = 0x01
	FeaturePower         FID = 0x02
	FeatureTemperature   FID = 0x04
	FeatureErrorRecovery FID = 0x05
	FeatureWriteCache    FID = 0x06
	FeatureQueues        FID = 0x07
	FeatureInterruptCo   FID = 0x08
	FeatureInterruptVec  FID = 0x09
	FeatureAtomicity     FID = 0x0a
	FeatureAsyncEvents   FID = 0x0b
	FeatureKeepAlive     FID = 0x0f
	FeatureHostBehavior  FID = 0x16
	FeatureHostID        FID = 0x81
	FeatureResvMask      FID = 0x82
	FeatureResvPersist   FID = 0x83
)

// FID returns the feature of Get and Set Features.
func (c *Command) FID() FID { return FID(c[40]) }

// Values of Select: which value Get Features returns.
const (
	SelectCurrent   = 0
	SelectDefault   = 1
	SelectSaved     = 2
	SelectSupported = 3
)

// Bits of the result of Get Features with SelectSupported.
const (
	FeatureSaveable   uint32 = 1 << 0
	FeaturePerNS      uint32 = 1 << 1
	FeatureChangeable uint32 = 1 << 2
)

// Select returns Get Features' select field.
func (c *Command) Select() uint8 { return c[41] & 7 }

// Save reports whether Set Features asks to keep the value over resets.
func (c *Command) Save() bool { return c[43]>>7 != 0 }

// SetFeature makes the command a Get or Set Features of fid.
func (c *Command) SetFeature(fid FID, value uint32) {
	c[40] = byte(fid)
	c.SetCDW(11, value)
}

// Temperature reads the value of FeatureTemperature: which sensor, 0 for the
// composite temperature and 15 for all, whether it is the threshold below which
// it is too cold, and Kelvin.
func Temperature(v uint32) (sensor uint8, under bool, kelvin uint16, ok bool) {
	return uint8(v>>16) & 15, v>>20&3 == 1, uint16(v), v>>20&3 <= 1
}

// AsyncEvent is the result of an Asynchronous Event Request (base 2.0, figure
// 145).
type AsyncEvent struct {
	Type uint8 // 0 error, 1 SMART, 2 notice
	Info uint8
	LID  LID // log page to read, which clears the event
}

// Event types.
const (
	EventError  = 0
	EventSMART  = 1
	EventNotice = 2
	EventIO     = 6 // of an I/O command set
)

// The notices.
var (
	NoticeNamespace = AsyncEvent{Type: EventNotice, Info: 0x00, LID: LogChangedNS}
	NoticeANA       = AsyncEvent{Type: EventNotice, Info: 0x03, LID: LogANA}
	NoticeResv      = AsyncEvent{Type: EventIO, Info: 0x00, LID: LogReservations}
	EventHot        = AsyncEvent{Type: EventSMART, Info: 0x01, LID: LogSMART} // a temperature threshold was passed
	NoticeDiscovery = AsyncEvent{Type: EventNotice, Info: 0xf0, LID: LogDiscovery}
)

// Encode returns DW0 of the completion.
func (e AsyncEvent) Encode() uint32 {
	return uint32(e.Type&7) | uint32(e.Info)<<8 | uint32(e.LID)<<16
}

// DecodeAsyncEvent splits DW0 of the completion.
func DecodeAsyncEvent(dw0 uint32) AsyncEvent {
	return AsyncEvent{Type: uint8(dw0) & 7, Info: uint8(dw0 >> 8), LID: LID(dw0 >> 16)}
}
