package nvmftgt

import (
	"github.com/virtual-disk-array/vda/nvme"
)

// The tables of what controllers execute and answer. What the logs and
// Identify say of them is made from these tables, and so is what is executed:
// neither can promise what the other refuses.

// logPage is a log page that controllers answer. One of read and part is set.
type logPage struct {
	lid       nvme.LID
	discovery bool                    // discovery controllers have it
	io        func(s *Subsystem) bool // controllers of s, which is no discovery subsystem, have it
	read      func(conn *conn, v nvme.GetLogPage) []byte
	// part fills out from offset on, for a page that may be long, and returns
	// the length of the whole, or why there is none.
	part func(conn *conn, out []byte, offset uint64) (uint64, nvme.Status)
}

func always(*Subsystem) bool            { return true }
func never(*Subsystem) bool             { return false }
func (s *Subsystem) reportsANA() bool   { return s.cfg.ANAReporting }
func (l *logPage) of(s *Subsystem) bool { return s.discovery && l.discovery || !s.discovery && l.io(s) }

var logPages []logPage

func init() { // not where it is declared: the first page lists the others
	logPages = []logPage{
		{lid: nvme.LogSupported, discovery: true, io: always, read: supportedLog},
		{lid: nvme.LogError, discovery: true, io: always, read: func(conn *conn, _ nvme.GetLogPage) []byte { return conn.ctrl.errors.page() }},
		{lid: nvme.LogSMART, io: always, read: smartLog},
		{lid: nvme.LogFirmware, discovery: true, io: always, read: firmwareLog},
		{lid: nvme.LogChangedNS, io: always, read: func(conn *conn, v nvme.GetLogPage) []byte { return conn.ctrl.changedList(v.RetainE) }},
		{lid: nvme.LogCommands, discovery: true, io: always, read: commandsLog},
		{lid: nvme.LogANA, io: (*Subsystem).reportsANA,
			read: func(conn *conn, v nvme.GetLogPage) []byte { return conn.anaLog(v.LSP&nvme.ANAOnlyGroups != 0) }},
		{lid: nvme.LogFeatures, discovery: true, io: always, read: featuresLog},
		{lid: nvme.LogMICommands, discovery: true, io: always,
			read: func(*conn, nvme.GetLogPage) []byte { return make([]byte, nvme.MICommandsLen) }},
		{lid: nvme.LogDiscovery, discovery: true, io: never, part: discoveryLog},
		{lid: nvme.LogReservations, io: (*Subsystem).reserves,
			read: func(conn *conn, _ nvme.GetLogPage) []byte { return conn.ctrl.resvNotice() }},
	}
}

// logPage returns the page that controllers of s answer, or nil.
func (s *Subsystem) logPage(lid nvme.LID) *logPage {
	for i := range logPages {
		if l := &logPages[i]; l.lid == lid && l.of(s) {
			return l
		}
	}
	return nil
}

func supportedLog(conn *conn, _ nvme.GetLogPage) []byte {
	p := make([]byte, nvme.SupportedLen)
	var pages []nvme.LID
	for i := range logPages {
		if l := &logPages[i]; l.of(conn.sub) {
			pages = append(pages, l.lid)
		}
	}
	nvme.PutSupported(p, pages...)
	return p
}

func smartLog(conn *conn, _ nvme.GetLogPage) []byte {
	p := make([]byte, nvme.SMARTLen)
	smart := conn.sub.smart()
	smart.ErrorEntries, smart.CriticalWarning = conn.ctrl.errors.count(), conn.ctrl.warning()
	nvme.PutSMART(p, smart)
	return p
}

func firmwareLog(*conn, nvme.GetLogPage) []byte {
	p := make([]byte, nvme.FirmwareLen)
	nvme.PutFirmware(p, firmware)
	return p
}

// command is a command that controllers execute.
type command struct {
	effects   uint32
	discovery bool                    // discovery controllers have it
	io        func(s *Subsystem) bool // controllers of s have it
}

var adminCommands = map[nvme.Opcode]command{
	nvme.AdminGetLogPage:  {nvme.EffectSupported | nvme.ScopeController, true, always},
	nvme.AdminIdentify:    {nvme.EffectSupported | nvme.ScopeController | nvme.ScopeNamespace, true, always},
	nvme.AdminAbort:       {nvme.EffectSupported | nvme.ScopeController, true, always},
	nvme.AdminSetFeatures: {nvme.EffectSupported | nvme.ScopeController | nvme.ScopeNamespace, true, always},
	nvme.AdminGetFeatures: {nvme.EffectSupported | nvme.ScopeController | nvme.ScopeNamespace, true, always},
	nvme.AdminAsyncEvent:  {nvme.EffectSupported | nvme.ScopeController, true, always},
	nvme.AdminKeepAlive:   {nvme.EffectSupported | nvme.ScopeController, true, always},
}

// ioCommands are those of I/O queues; plan and start know how.
var ioCommands = map[nvme.Opcode]command{
	nvme.IOFlush:             {nvme.EffectSupported | nvme.ScopeNamespace, false, always},
	nvme.IOWrite:             {nvme.EffectSupported | nvme.EffectContent | nvme.ScopeNamespace, false, always},
	nvme.IORead:              {nvme.EffectSupported | nvme.ScopeNamespace, false, always},
	nvme.IOCompare:           {nvme.EffectSupported | nvme.ScopeNamespace, false, always},
	nvme.IOWriteZeroes:       {nvme.EffectSupported | nvme.EffectContent | nvme.ScopeNamespace, false, always},
	nvme.IODatasetManagement: {nvme.EffectSupported | nvme.EffectContent | nvme.ScopeNamespace, false, always},
	nvme.IOVerify:            {nvme.EffectSupported | nvme.ScopeNamespace, false, always},
	nvme.IOResvRegister:      {nvme.EffectSupported | nvme.ScopeNamespace, false, (*Subsystem).reserves},
	nvme.IOResvReport:        {nvme.EffectSupported | nvme.ScopeNamespace, false, (*Subsystem).reserves},
	nvme.IOResvAcquire:       {nvme.EffectSupported | nvme.ScopeNamespace, false, (*Subsystem).reserves},
	nvme.IOResvRelease:       {nvme.EffectSupported | nvme.ScopeNamespace, false, (*Subsystem).reserves},
}

func (c command) of(s *Subsystem) bool {
	return s.discovery && c.discovery || !s.discovery && c.io != nil && c.io(s)
}

// effects are those of the commands that s has.
func effects[K comparable](s *Subsystem, all map[K]command) map[K]uint32 {
	out := map[K]uint32{}
	for op, c := range all {
		if c.of(s) {
			out[op] = c.effects
		}
	}
	return out
}

func commandsLog(conn *conn, _ nvme.GetLogPage) []byte {
	p := make([]byte, nvme.CommandsLen)
	nvme.PutCommands(p, effects(conn.sub, adminCommands), effects(conn.sub, ioCommands))
	return p
}

// featureTable are the features that controllers have; getFeatures and
// setFeatures know how.
var featureTable = map[nvme.FID]command{
	nvme.FeatureArbitration:   {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeaturePower:         {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeatureTemperature:   {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeatureErrorRecovery: {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeatureWriteCache:    {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeatureQueues:        {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeatureAtomicity:     {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeatureAsyncEvents:   {nvme.EffectSupported | nvme.ScopeController, true, always},
	nvme.FeatureKeepAlive:     {nvme.EffectSupported | nvme.ScopeController, true, always},
	nvme.FeatureHostBehavior:  {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeatureHostID:        {nvme.EffectSupported | nvme.ScopeController, false, always},
	nvme.FeatureResvMask:      {nvme.EffectSupported | nvme.ScopeNamespace, false, (*Subsystem).reserves},
	nvme.FeatureResvPersist:   {nvme.EffectSupported | nvme.ScopeNamespace, false, (*Subsystem).reserves},
}

func featuresLog(conn *conn, _ nvme.GetLogPage) []byte {
	p := make([]byte, nvme.FeaturesLen)
	nvme.PutFeatures(p, effects(conn.sub, featureTable))
	return p
}
