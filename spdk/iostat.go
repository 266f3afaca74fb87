package spdk

import "context"

// IOCounts is what was read and written through a bdev or a namespace. Times are in
// nanoseconds, summed over the requests; failed ones are in Errors alone.
type IOCounts struct {
	Reads        uint64 `json:"reads"`
	Writes       uint64 `json:"writes"`
	ReadBytes    uint64 `json:"read_bytes"`
	WrittenBytes uint64 `json:"written_bytes"`
	ReadNanos    uint64 `json:"read_ns"`
	WriteNanos   uint64 `json:"write_ns"`
	Errors       uint64 `json:"errors"`
	Throttled    uint64 `json:"throttled_ns"` // time in which some waited for a limit of the bdev

	// Requests by how long they took, see VdaIOStats.Bounds; nil when that is not counted.
	ReadLatencies  []uint64 `json:"read_latencies"`
	WriteLatencies []uint64 `json:"write_latencies"`
}

// VdaIOStats is the result of vda_get_iostat.
type VdaIOStats struct {
	// Bounds are the longest latencies, in nanoseconds, of the elements of IOCounts'
	// latencies but the last, which counts what took longer.
	Bounds []uint64 `json:"latency_bounds_ns"`
	Bdevs  []struct {
		Name string `json:"name"` // as asked for
		IOCounts
	} `json:"bdevs"`
	Subsystems []SubsystemIO `json:"subsystems"`
}

// SubsystemIO is what hosts do with one subsystem.
type SubsystemIO struct {
	NQN   string `json:"nqn"`
	Hosts []struct {
		NQN         string `json:"nqn"`
		Controllers int    `json:"controllers"`
		Queues      int    `json:"io_queues"`
	} `json:"hosts"` // that are connected
	Namespaces []struct {
		NSID     uint32 `json:"nsid"`
		BdevName string `json:"bdev_name"`
		IOCounts
	} `json:"namespaces"`
}

// VdaGetIOStat returns the counters of bdevs, by name, alias or UUID, and of subsystems;
// those that there are not are left out. vda_tgt only: IsMethodNotFound on SPDK.
func (a API) VdaGetIOStat(ctx context.Context, bdevs, nqns []string) (*VdaIOStats, error) {
	return ask[*VdaIOStats](ctx, a, "vda_get_iostat", struct {
		Bdevs []string `json:"bdevs,omitempty"`
		NQNs  []string `json:"nqns,omitempty"`
	}{bdevs, nqns})
}

// NvmfController is a host's controller, from nvmf_subsystem_get_controllers.
type NvmfController struct {
	Cntlid      uint16 `json:"cntlid"`
	CntrlType   string `json:"cntrltype,omitempty"`
	HostNQN     string `json:"hostnqn"`
	HostID      string `json:"hostid"`
	NumIOQpairs uint32 `json:"num_io_qpairs"`
}

// NvmfSubsystemGetControllers lists the controllers of the hosts that are connected to a
// subsystem.
func (a API) NvmfSubsystemGetControllers(ctx context.Context, subNQN string) ([]NvmfController, error) {
	return ask[[]NvmfController](ctx, a, "nvmf_subsystem_get_controllers", nqn{subNQN})
}

// VdaGetLog returns the last lines that the data plane has logged, of at most so many bytes; 0: of
// all that it keeps. vda_tgt only: IsMethodNotFound on SPDK.
func (a API) VdaGetLog(ctx context.Context, maxBytes uint64) (string, error) {
	reply, err := ask[struct {
		Log string `json:"log"`
	}](ctx, a, "vda_get_log", struct {
		MaxBytes uint64 `json:"max_bytes,omitempty"`
	}{maxBytes})
	return reply.Log, err
}
