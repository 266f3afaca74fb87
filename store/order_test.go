package store_test

import (
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// TestRecorderKnowsEveryMethod: a method that locks rows and is not recorded
// would escape the test of the lock order.
func TestRecorderKnowsEveryMethod(t *testing.T) {
	locksNothing := map[string]bool{"Unlocked": true, "WaysOfExps": true, "AilingVDs": true, "LegsOf": true, "UnsettledLegs": true,
		"DrainingVDs": true, "DANames": true, "Tags": true, "TrashedVDs": true, "TrashedSizes": true,
		"CntlrsOfDAs": true,
		"NodeNames":   true, "DAsOnNode": true, "NodeStates": true, "NodesListening": true, "NodesAt": true,
		"DNsByID": true, "CNsByID": true, "SomePDs": true, "SomeCNs": true,
		"DAsOnCN": true, "PeersOnCN": true, "SnapsOnCN": true, "ExpsOnCN": true, "GrpsOnCN": true, "VDsOnCN": true,
		"BehindOnCN": true, "MirrorsOnCN": true, "ESsOnCN": true, "TermsOnDN": true,
		"SuspectDAs": true, "CountDAs": true,
		"ListEvents": true, "LastEvent": true, "Record": true, "DeleteOldEvents": true,
		"BeatMonitor": true, "LastBeat": true, "Alerts": true, "UpsertAlert": true, "DeleteAlert": true, "DeleteMonitor": true,
		"SetMonitorHalvings": true,
		"Monitors":           true,
		// They lock rows of tables of their own, in transactions of their own.
		"Security": true, "SetSecurity": true, "Members": true, "UpsertMember": true, "Token": true, "Tokens": true, "InsertToken": true,
		"DeleteToken": true, "Users": true, "InsertUser": true, "UpdateUser": true, "DeleteUser": true}
	all := reflect.TypeFor[store.Tx]()
	own := reflect.TypeFor[*storetest.Recorder]()
	for i := range all.NumMethod() {
		name := all.Method(i).Name
		m, _ := own.MethodByName(name)
		file, _ := runtime.FuncForPC(m.Func.Pointer()).FileLine(m.Func.Pointer())
		if promoted := !strings.Contains(file, "storetest/order"); promoted != locksNothing[name] {
			t.Errorf("%s: recorded is %v, locks nothing is %v", name, !promoted, locksNothing[name])
		}
	}
}
