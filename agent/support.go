package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/support"
)

// supportCalls are what a data plane is asked for a support bundle: what it is, what it has, and
// what it has counted. It is asked for those that it has.
var supportCalls = []string{
	"spdk_get_version", "bdev_get_bdevs", "bdev_get_iostat", "bdev_lvol_get_lvstores", "bdev_raid_get_bdevs", "bdev_nvme_get_controllers",
	"bdev_nvme_get_io_paths", "nvmf_get_subsystems", "nvmf_get_transports", "nvmf_get_stats", "vda_mirror_get", "vda_mirror_list",
	"framework_get_reactors", "thread_get_stats",
}

// supportParams are parameters of those that do not go without.
var supportParams = map[string]any{"bdev_raid_get_bdevs": map[string]string{"category": "all"}}

// supportTime bounds all of them together.
const supportTime = 8 * time.Second

// Support is what an agent adds to a support bundle: what its data plane says of itself, and what
// the agent remembers.
func (n *Node) support(ctx context.Context, stateDir string) []support.File {
	ctx, cancel := context.WithTimeout(ctx, supportTime)
	defer cancel()
	files := []support.File{support.Clean("data_plane/status.txt", fmt.Appendf(nil, "%+v\n", n.Plane.Status()))}
	for _, name := range []string{stateName, journalName} {
		text, err := os.ReadFile(filepath.Join(stateDir, name))
		switch {
		case err == nil:
			files = append(files, support.Clean("state/"+name, text))
		case !errors.Is(err, os.ErrNotExist):
			files = append(files, support.Failed("state/"+name, errors.New(reason.Full(err))))
		}
	}
	asking, stop := context.WithTimeout(ctx, supportTime/2) // there is time for its log if it hangs
	has, err := n.Plane.probes.GetMethods(asking, false)
	stop()
	if err != nil {
		files = append(files, support.Failed("data_plane/calls", errors.New(reason.Full(err))))
		if n.Cfg.PlaneUnit != "" {
			files = append(files, n.planeLog(ctx, nil, unitLogTime)) // it may say why
		}
		return files
	}
	files = append(files, n.planeLog(ctx, has, unitLogTime))
	for _, method := range supportCalls {
		if !slices.Contains(has, method) {
			continue
		}
		name := "data_plane/" + method + ".json"
		var result json.RawMessage
		if err := n.Plane.probes.Client.Call(ctx, method, supportParams[method], &result); err != nil {
			files = append(files, support.Failed(name, errors.New(reason.Full(err))))
			continue
		}
		var text bytes.Buffer
		if json.Indent(&text, result, "", " ") != nil {
			text.Write(result)
		}
		files = append(files, support.Clean(name, text.Bytes()))
	}
	return files
}

// planeLog is the end of the data plane's own log: what it says itself if it has the method for that,
// and else the journal of its unit, which may take as long as limit.
func (n *Node) planeLog(ctx context.Context, has []string, limit time.Duration) support.File {
	const name = "data_plane/log.txt"
	switch {
	case slices.Contains(has, "vda_get_log"):
		log, err := n.Plane.probes.VdaGetLog(ctx, support.MaxFile)
		if err != nil {
			return support.Failed(name, errors.New(reason.Full(err)))
		}
		return support.Clean(name, []byte(log))
	case n.Cfg.PlaneUnit != "":
		log, err := unitLog(ctx, n.Cfg.PlaneUnit, limit)
		if err != nil {
			return support.Failed(name, err)
		}
		return support.Clean(name, log)
	}
	return support.Clean(name, []byte("this data plane does not give its log away: it is where its standard error goes to, "+
		"such as the journal of its unit, which --data-plane-unit of the agent names\n"))
}
