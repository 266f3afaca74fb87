package cli

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// column is one of a table of objects.
type column struct {
	head string
	wide bool // shown with -o wide and when it is named alone
	of   func(protoreflect.Message) string
}

// col makes a column of messages of one type.
func col[M protoreflect.ProtoMessage](head string, of func(M) string) column {
	return column{head: head, of: func(m protoreflect.Message) string {
		if text := of(m.Interface().(M)); text != "" {
			return text
		}
		return "-"
	}}
}

// wide has a column shown with -o wide.
func wide(c column) column {
	c.wide = true
	return c
}

// now is the time that ages are told by.
var now = time.Now

// columns are those of each type of object that tables have. Others have their fields.
var columns = map[protoreflect.Name][]column{
	"DnMsg": {
		col("NAME", (*apiv1.DnMsg).GetDnName),
		col("STATE", func(m *apiv1.DnMsg) string { return nodeState(m.Error, m.Online, m.Drain) }),
		col("LOCATION", (*apiv1.DnMsg).GetLocation),
		col("LISTENER", func(m *apiv1.DnMsg) string { return brief(m.DnListenerConf) }),
		col("PDS", func(m *apiv1.DnMsg) string { return fmt.Sprint(m.PdCnt) }),
		col("SIZE", func(m *apiv1.DnMsg) string { return short(m.TotalSize) }),
		col("FREE", func(m *apiv1.DnMsg) string { return short(m.FreeSize) }),
		col("PROBLEM", func(m *apiv1.DnMsg) string { return problem(m.Error, m.ErrorMsg, m.ErrorTime) }),
		wide(col("AGENT", (*apiv1.DnMsg).GetDnAddr)),
		wide(col("DATA-PLANE", (*apiv1.DnMsg).GetDataPlaneVersion)),
		wide(col("VERSION", func(m *apiv1.DnMsg) string { return fmt.Sprint(m.Version) })),
		wide(col("ID", (*apiv1.DnMsg).GetDnId)),
	},
	"CnMsg": {
		col("NAME", (*apiv1.CnMsg).GetCnName),
		col("STATE", func(m *apiv1.CnMsg) string { return nodeState(m.Error, m.Online, m.Drain) }),
		col("LOCATION", (*apiv1.CnMsg).GetLocation),
		col("LISTENER", func(m *apiv1.CnMsg) string { return brief(m.CnListenerConf) }),
		col("CONTROLLERS", func(m *apiv1.CnMsg) string { return fmt.Sprint(m.CntlrCnt) }),
		col("PRIMARIES", func(m *apiv1.CnMsg) string { return fmt.Sprint(m.PrimaryCnt) }),
		col("PROBLEM", func(m *apiv1.CnMsg) string { return problem(m.Error, m.ErrorMsg, m.ErrorTime) }),
		wide(col("AGENT", (*apiv1.CnMsg).GetCnAddr)),
		wide(col("BACK-END", func(m *apiv1.CnMsg) string { return brief(m.CnBackendListenerConf) })),
		wide(col("DATA-PLANE", (*apiv1.CnMsg).GetDataPlaneVersion)),
		wide(col("VERSION", func(m *apiv1.CnMsg) string { return fmt.Sprint(m.Version) })),
		wide(col("ID", (*apiv1.CnMsg).GetCnId)),
	},
	"PdMsg": {
		col("DN", (*apiv1.PdMsg).GetDnName),
		col("NAME", (*apiv1.PdMsg).GetPdName),
		col("STATE", func(m *apiv1.PdMsg) string { return nodeState(m.Error, m.Online, m.Drain) }),
		col("DISK", func(m *apiv1.PdMsg) string { return brief(m.PdConf) }),
		col("SIZE", func(m *apiv1.PdMsg) string { return short(m.TotalSize) }),
		col("FREE", func(m *apiv1.PdMsg) string { return short(m.FreeSize) }),
		col("VDS", func(m *apiv1.PdMsg) string { return fmt.Sprint(m.VdCnt) }),
		col("AGE", func(m *apiv1.PdMsg) string { return ageOf(m.PdId) }),
		col("PROBLEM", func(m *apiv1.PdMsg) string { return problem(m.Error, m.ErrorMsg, m.ErrorTime) }),
		wide(col("CLUSTER", func(m *apiv1.PdMsg) string { return size(m.ClusterSize) })),
		wide(col("ORPHANED", func(m *apiv1.PdMsg) string { return short(m.OrphanSize) })),
		wide(col("CACHE", (*apiv1.PdMsg).GetWriteCache)),
		wide(col("ID", (*apiv1.PdMsg).GetPdId)),
	},
	"DiskMsg": {
		col("PATH", (*apiv1.DiskMsg).GetPath),
		col("STATE", (*apiv1.DiskMsg).GetState),
		col("SIZE", func(m *apiv1.DiskMsg) string { return short(m.Size) }),
		col("KIND", (*apiv1.DiskMsg).GetKind),
		col("MODEL", (*apiv1.DiskMsg).GetModel),
		col("PD", (*apiv1.DiskMsg).GetPdName),
		col("WHY", (*apiv1.DiskMsg).GetWhy),
		wide(col("DEVICE", (*apiv1.DiskMsg).GetDevice)),
		wide(col("SERIAL", (*apiv1.DiskMsg).GetSerial)),
	},
	"VdMsg": {
		col("ID", (*apiv1.VdMsg).GetVdId),
		col("DN", (*apiv1.VdMsg).GetDnName),
		col("PD", (*apiv1.VdMsg).GetPdName),
		col("STATE", func(m *apiv1.VdMsg) string { return nodeState(m.Error, true, m.Leaving) }),
		col("SIZE", func(m *apiv1.VdMsg) string { return short(m.Size) }),
		col("ROLE", (*apiv1.VdMsg).GetRole),
		col("LACKS", func(m *apiv1.VdMsg) string { return some(m.LackBytes) }),
		col("PROBLEM", func(m *apiv1.VdMsg) string { return problem(m.Error, m.ErrorMsg, m.ErrorTime) }),
		wide(col("RATE", func(m *apiv1.VdMsg) string { return rate(m.RebuildBytesPerSec) })),
		wide(col("LEFT", func(m *apiv1.VdMsg) string { return left(m.RebuildLeftSec) })),
		wide(col("INDEX", func(m *apiv1.VdMsg) string { return fmt.Sprint(m.VdIdx) })),
		wide(col("AGE", func(m *apiv1.VdMsg) string { return ageOf(m.VdId) })),
	},
	"DaMsg": {
		col("NAME", (*apiv1.DaMsg).GetDaName),
		col("STATE", func(m *apiv1.DaMsg) string { return arrayState(m) }),
		col("SIZE", func(m *apiv1.DaMsg) string { return short(m.DaSize) }),
		col("PHYSICAL", func(m *apiv1.DaMsg) string { return short(m.PhysicalSize) }),
		col("REDUNDANCY", (*apiv1.DaMsg).GetRedundancy),
		col("PRIMARY", (*apiv1.DaMsg).GetPrimaryCn),
		col("PATHS", func(m *apiv1.DaMsg) string { return fmt.Sprintf("%d/%d", m.WellPathCnt, m.CntlrCnt) }),
		col("AGE", func(m *apiv1.DaMsg) string { return ageOf(m.DaId) }),
		col("PROBLEM", func(m *apiv1.DaMsg) string { return problem(m.Error, m.ErrorMsg, m.ErrorTime) }),
		wide(col("USED", func(m *apiv1.DaMsg) string { return used(m) })),
		wide(col("LACKS", func(m *apiv1.DaMsg) string { return some(m.LackBytes) })),
		wide(col("RATE", func(m *apiv1.DaMsg) string { return rate(m.RebuildBytesPerSec) })),
		wide(col("LEFT", func(m *apiv1.DaMsg) string { return left(m.RebuildLeftSec) })),
		wide(col("MIN-LEGS", func(m *apiv1.DaMsg) string { return fmt.Sprint(m.MinLegs) })),
		wide(col("STRIPES", func(m *apiv1.DaMsg) string { return brief(m.DaConf) })),
		wide(col("LIMITS", limitsOf)),
		wide(col("TERM", func(m *apiv1.DaMsg) string { return fmt.Sprint(m.Term) })),
		wide(col("DELETED-AT", (*apiv1.DaMsg).GetPurgeTime)),
		wide(col("ID", (*apiv1.DaMsg).GetDaId)),
	},
	"GrpMsg": {
		col("INDEX", func(m *apiv1.GrpMsg) string { return fmt.Sprint(m.GrpIdx) }),
		col("SIZE", func(m *apiv1.GrpMsg) string { return short(m.Size) }),
		wide(col("ID", (*apiv1.GrpMsg).GetGrpId)),
	},
	"CntlrMsg": {
		col("INDEX", func(m *apiv1.CntlrMsg) string { return fmt.Sprint(m.CntlrIdx) }),
		col("CN", (*apiv1.CntlrMsg).GetCnName),
		col("ROLE", func(m *apiv1.CntlrMsg) string { return either(m.Primary, "primary", "secondary") }),
		col("STATE", func(m *apiv1.CntlrMsg) string { return nodeState(m.Error, true, false) }),
		col("AGE", func(m *apiv1.CntlrMsg) string { return ageOf(m.CntlrId) }),
		col("PROBLEM", func(m *apiv1.CntlrMsg) string { return problem(m.Error, m.ErrorMsg, m.ErrorTime) }),
		wide(col("ID", (*apiv1.CntlrMsg).GetCntlrId)),
	},
	"ExpMsg": {
		col("DA", (*apiv1.ExpMsg).GetDaName),
		col("NAME", (*apiv1.ExpMsg).GetExpName),
		col("STATE", func(m *apiv1.ExpMsg) string { return expState(m) }),
		col("PATHS", func(m *apiv1.ExpMsg) string { return fmt.Sprintf("%d/%d", wellWays(m), len(m.EsMsgList)) }),
		col("HOST", func(m *apiv1.ExpMsg) string {
			if n := len(m.MoreInitiatorNqnList); n > 0 {
				return fmt.Sprintf("%s and %d more", m.InitiatorNqn, n)
			}
			return m.InitiatorNqn
		}),
		col("CNS", func(m *apiv1.ExpMsg) string {
			var cns []string
			for _, es := range m.EsMsgList {
				cns = append(cns, es.CnName)
			}
			return strings.Join(cns, ",")
		}),
		col("AGE", func(m *apiv1.ExpMsg) string { return ageOf(m.ExpId) }),
		wide(col("SNAPSHOT", (*apiv1.ExpMsg).GetSnapName)),
		wide(col("NQN", (*apiv1.ExpMsg).GetExpNqn)),
		wide(col("ID", (*apiv1.ExpMsg).GetExpId)),
	},
	"EsMsg": {
		col("INDEX", func(m *apiv1.EsMsg) string { return fmt.Sprint(m.CntlrIdx) }),
		col("CN", (*apiv1.EsMsg).GetCnName),
		col("ADDRESS", func(m *apiv1.EsMsg) string { return brief(m.CnListenerConf) }),
		col("STATE", func(m *apiv1.EsMsg) string { return nodeState(m.Error, true, false) }),
		col("PROBLEM", func(m *apiv1.EsMsg) string { return problem(m.Error, m.ErrorMsg, "") }),
		wide(col("ID", (*apiv1.EsMsg).GetEsId)),
	},
	"SnapMsg": {
		col("DA", (*apiv1.SnapMsg).GetDaName),
		col("NAME", (*apiv1.SnapMsg).GetSnapName),
		col("STATE", func(m *apiv1.SnapMsg) string { return either(m.Error, "error", m.State) }),
		col("SIZE", func(m *apiv1.SnapMsg) string { return short(m.DaSize) }),
		col("HOLDS", func(m *apiv1.SnapMsg) string { return short(m.HeldSize) }),
		col("WRITABLE", func(m *apiv1.SnapMsg) string { return either(m.Writable, "of "+m.FromSnap, "") }),
		col("AGE", func(m *apiv1.SnapMsg) string { return ageOf(m.SnapId) }),
		col("PROBLEM", func(m *apiv1.SnapMsg) string { return problem(m.Error, m.ErrorMsg, m.ErrorTime) }),
		wide(col("ID", (*apiv1.SnapMsg).GetSnapId)),
	},
	"OrphanMsg": {
		col("ID", (*apiv1.OrphanMsg).GetOrphanId),
		col("KIND", (*apiv1.OrphanMsg).GetKind),
		col("NAME", (*apiv1.OrphanMsg).GetName),
		col("SIZE", func(m *apiv1.OrphanMsg) string { return some(m.Size) }),
		col("NODES", func(m *apiv1.OrphanMsg) string { return strings.Join(m.NodeNameList, ",") }),
		col("PROBLEM", (*apiv1.OrphanMsg).GetProblem),
	},
	"EventMsg": {
		col("TIME", func(m *apiv1.EventMsg) string { return shortTime(m.Time) }),
		col("SEVERITY", (*apiv1.EventMsg).GetSeverity),
		col("KIND", (*apiv1.EventMsg).GetKind),
		col("OBJECT", eventObject),
		col("WHAT", eventText),
		wide(col("USER", (*apiv1.EventMsg).GetUser)),
		wide(col("PEER", (*apiv1.EventMsg).GetPeer)),
		wide(col("METHOD", (*apiv1.EventMsg).GetMethod)),
		wide(col("REQ-ID", (*apiv1.EventMsg).GetReqId)),
		wide(col("ID", func(m *apiv1.EventMsg) string { return fmt.Sprint(m.EventId) })),
	},
	"AlertMsg": {
		col("SINCE", func(m *apiv1.AlertMsg) string { return shortTime(cmp.Or(m.Since, "-")) }),
		col("SEVERITY", (*apiv1.AlertMsg).GetSeverity),
		col("CODE", (*apiv1.AlertMsg).GetCode),
		col("OBJECT", func(m *apiv1.AlertMsg) string { return strings.TrimSpace(m.Object + " " + m.Name) }),
		col("WHAT", func(m *apiv1.AlertMsg) string { return oneLine(m.Text) }),
	},
}

func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// nodeState is how a part of the cluster is, in a word.
func nodeState(ill, online, leaving bool) string {
	switch {
	case ill:
		return "error"
	case leaving:
		return "leaving"
	case !online:
		return "offline"
	}
	return "up"
}

func arrayState(m *apiv1.DaMsg) string {
	switch {
	case m.Error:
		return "error"
	case m.RedundancyState != "" && m.RedundancyState != "full":
		if m.RebuildPercent > 0 {
			return fmt.Sprintf("%s %d%%", m.RedundancyState, m.RebuildPercent)
		}
		return m.RedundancyState
	}
	return "up"
}

// rate and left are of a rebuild; nothing when they are not known.
func rate(bytesPerSec uint64) string {
	if bytesPerSec == 0 {
		return ""
	}
	return roughly(bytesPerSec) + "/s"
}

func left(seconds uint64) string {
	if seconds == 0 {
		return ""
	}
	return (time.Duration(seconds) * time.Second).String()
}

func wellWays(m *apiv1.ExpMsg) (n int) {
	for _, es := range m.EsMsgList {
		if !es.Error {
			n++
		}
	}
	return n
}

func expState(m *apiv1.ExpMsg) string {
	switch n := wellWays(m); {
	case n == 0:
		return "error"
	case n < len(m.EsMsgList):
		return "degraded"
	}
	return "up"
}

// problem is an error with how long it has been known.
func problem(ill bool, msg, since string) string {
	if !ill {
		return ""
	}
	if t, err := time.Parse(time.RFC3339Nano, since); err == nil {
		return fmt.Sprintf("%s (for %s)", msg, age(now().Sub(t)))
	}
	return msg
}

// ageOf is how long ago an object was created, which its id tells: the first six bytes
// of a version 7 UUID are milliseconds since 1970 (RFC 9562, section 5.7). "" for another
// id.
func ageOf(id string) string {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != 16 || b[6]>>4 != 7 {
		return ""
	}
	var ms int64
	for _, c := range b[:6] {
		ms = ms<<8 | int64(c)
	}
	return age(now().Sub(time.UnixMilli(ms)))
}

// age is a time in its two largest units at most.
func age(d time.Duration) string {
	d = max(d, 0)
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d/day))
}

// some is a size, "" for none.
// used is how much of an array's physical size is in use.
func used(m *apiv1.DaMsg) string {
	total := m.UsedSize + m.FreeSize
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%.0f%%)", short(m.UsedSize), 100*float64(m.UsedSize)/float64(total))
}

func some(n uint64) string {
	if n == 0 {
		return ""
	}
	return short(n)
}

func limitsOf(m *apiv1.DaMsg) string {
	var all []string
	for _, l := range []struct {
		n    uint64
		what string
	}{{m.RwIosPerSec, "IOPS"}, {m.RwMbytesPerSec, "MiB/s"}, {m.RMbytesPerSec, "MiB/s read"}, {m.WMbytesPerSec, "MiB/s written"},
		{m.RebuildMbps, "MiB/s copied"}} {
		if l.n > 0 {
			all = append(all, fmt.Sprint(l.n, " ", l.what))
		}
	}
	return strings.Join(all, ", ")
}

// brief is a conf in a few words instead of its JSON: an address, a disk, stripes. A text
// that is not a JSON object stays as it is.
func brief(conf string) string {
	var m map[string]any
	if json.Unmarshal([]byte(conf), &m) != nil || m == nil {
		return conf
	}
	text := func(key string) string {
		v, is := m[key]
		if !is {
			return ""
		}
		if n, is := v.(float64); is {
			return fmt.Sprintf("%.0f", n)
		}
		return fmt.Sprint(v)
	}
	switch {
	case text("trtype") != "" && text("traddr") != "":
		return text("trtype") + "://" + net.JoinHostPort(text("traddr"), text("trsvcid"))
	case text("filename") != "":
		return text("type") + ":" + text("filename")
	case text("type") == "nvme":
		return "nvme:" + text("traddr")
	case text("type") != "":
		return text("type")
	}
	var pairs []string
	for k := range m {
		pairs = append(pairs, k+"="+text(k))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, " ")
}

// nameOf is what a user gives a command to mean the object, "" when m is not one:
// da0, 192.168.0.14:9720/pd0.
func nameOf(m protoreflect.Message) string {
	switch m := m.Interface().(type) {
	case *apiv1.DnMsg:
		return m.DnName
	case *apiv1.CnMsg:
		return m.CnName
	case *apiv1.PdMsg:
		return m.DnName + "/" + m.PdName
	case *apiv1.DiskMsg:
		return either(m.State == "free", m.Path, "")
	case *apiv1.VdMsg:
		return m.VdId
	case *apiv1.DaMsg:
		return m.DaName
	case *apiv1.ExpMsg:
		return m.DaName + "/" + m.ExpName
	case *apiv1.SnapMsg:
		return m.DaName + "/" + m.SnapName
	case *apiv1.OrphanMsg:
		return m.OrphanId
	}
	return ""
}
