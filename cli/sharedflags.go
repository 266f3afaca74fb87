package cli

// Flags that several commands have.
var (
	dnName   = flag{name: "dn-name", usage: "`NAME` of the disk node, which may be the HOST:PORT of its agent", required: true}
	pdName   = flag{name: "pd-name", usage: "`NAME` of the physical disk, unique on its disk node", required: true}
	cnName   = flag{name: "cn-name", usage: "`NAME` of the controller node, which may be the HOST:PORT of its agent", required: true}
	daName   = flag{name: "da-name", usage: "`NAME` of the disk array: letters, digits, '.', '-', '_', at most 63", required: true}
	snapName = flag{name: "snap-name", usage: "`NAME` of the snapshot, unique in its disk array", required: true}
	userName = flag{name: "user-name", usage: "`NAME` of the user", required: true}
	expName  = flag{name: "exp-name", usage: "`NAME` of the exporter, unique in its disk array", required: true}

	dnAddr    = flag{name: "dn-addr", usage: "`HOST:PORT` of the disk node's agent; the name when not given"}
	newDnAddr = flag{name: "new-dn-addr", usage: "`HOST:PORT` where the disk node's agent is now; unchanged when not given"}
	cnAddr    = flag{name: "cn-addr", usage: "`HOST:PORT` of the controller node's agent; the name when not given"}
	newCnAddr = flag{name: "new-cn-addr", usage: "`HOST:PORT` where the controller node's agent is now; unchanged when not given"}

	online    = flag{name: "online", usage: "whether new pieces of arrays may be placed here: `true` or false", def: "true"}
	newOnline = flag{name: "new-online", usage: "whether new pieces of arrays may be placed here: `true` or false; unchanged when not " +
		"given"}
	location = flag{name: "location", usage: "`FAILURE-DOMAIN` of the node, like a rack; arrays are spread over them. When not given, " +
		"the node is one of its own"}

	lost = flag{name: "force", syntax: order, usage: "the disk is lost: wait for nothing on it; refuse while vds of deleted arrays wait " +
		"when not given"}
	force = flag{name: "force", syntax: order, usage: "the node is lost for good: forget what waits for its confirmation; refuse while " +
		"anything does when not given"}

	vdID = flag{name: "vd-id", usage: "`ID` of the virtual disk, as da get shows it", required: true}

	orphanID = flag{name: "orphan-id", usage: "`ID` of the orphan, as orphan list shows it", required: true}
	newName  = flag{name: "new-name", usage: "`NAME` to adopt it under, when its own is taken; its own when not given"}

	allowEmpty = flag{name: "allow-empty", syntax: order, usage: "the node may be left without any of the objects that it has: it lets " +
		"go of them, and disks keep what is on them; refused when not given"}

	limit = flag{name: "limit", usage: "list at most `N` rows, up to 1000; --all lists as many as there are", def: "100"}
	token = flag{name: "token", usage: "continue after the page that returned this `TOKEN` as next_token; from the start when not " +
		"given"}
	onlineFilter = flag{name: "online", usage: "only those that are online (`true`) or not (false); all when not given"}
	errorFilter  = flag{name: "error", usage: "only those in error (`true`) or not (false); all when not given"}
	labelFilter  = flag{name: "label", usage: "only those with the label `KEY=VALUE`; likewise KEY!=VALUE, KEY, whatever its value, and !KEY; may " +
		"be given several times, and all hold; all when not given"}
	locFilter = flag{name: "location", usage: "only those in this `FAILURE-DOMAIN`; all when not given"}
)

// eventFlags select events.
var eventFlags = []flag{
	{name: "kind", field: "filter.kind_list", usage: "only of this `KIND`, or of one of several when given several times; all when not given"},
	{name: "severity", field: "filter.severity", usage: "only what is `info`, warning or error, or worse; all when not given",
		values: []string{"info", "warning", "error"}},
	{name: "object", field: "filter.object", usage: "only of objects of this `KIND`: dn, pd, vd, cn, da, snap, exp, orphan; all when not given",
		values: []string{"dn", "pd", "vd", "cn", "da", "snap", "exp", "orphan"}},
	{name: "name", field: "filter.name", usage: "only of the object `NAME` and what belongs to it; all when not given"},
	{name: "req-id", field: "filter.req_id", usage: "only what the request with this `ID` caused; all when not given"},
}

// limits are the flags of an array's limits, of which none is set when it is made, and
// all stay as they are when it is modified.
func limits(unset string) []flag {
	return []flag{
		{name: "rw-ios-per-sec", usage: "at most `N` reads and writes per second, a multiple of 1000; 0 for no limit" + unset},
		{name: "rw-mbytes-per-sec", usage: "at most `N` MiB per second read or written; 0 for no limit" + unset},
		{name: "r-mbytes-per-sec", usage: "at most `N` MiB per second read; 0 for no limit" + unset},
		{name: "w-mbytes-per-sec", usage: "at most `N` MiB per second written; 0 for no limit" + unset},
		{name: "rebuild-mbps", usage: "at most `N` MiB per second copied to legs of its mirrors, repaired and scrubbed, of all its columns " +
			"together; 0 for no limit" + unset},
	}
}

// autoGrow are the flags of how a thin array grows by itself.
func autoGrow(limit, below string) []flag {
	return []flag{
		{name: "auto-grow", syntax: sizeText, usage: "`SIZE` that the physical size of a thin array grows to by itself at most, in bytes or " +
			"like 32M" + limit},
		{name: "auto-grow-below", usage: "`PERCENT` of its bytes, 1 to 50: when fewer are free, the array grows" + below},
	}
}

// newTags are the flags of what is noted of an object when it is made, and tags of what
// is changed of that later.
var (
	newTags = []flag{
		{name: "label", usage: "`KEY=VALUE` to note of it and find it by, may be given several times; none when not given"},
		{name: "description", usage: "`TEXT` for people, of at most 1024 bytes; none when not given"},
	}
	tags = []flag{
		{name: "label", usage: "`KEY=VALUE` to note of it, or KEY- to remove a label, may be given several times; all stay when not given"},
		{name: "new-description", usage: "`TEXT` for people, or nothing to remove it; unchanged when not given"},
	}
)

// with is flags with others behind them.
func with(flags []flag, more ...flag) []flag { return append(flags[:len(flags):len(flags)], more...) }

func optional(f flag, usage string) flag {
	f.required, f.usage = false, usage
	return f
}

func listener(name string, required bool) flag {
	f := flag{name: name, syntax: jsonText, required: required,
		usage: "`JSON` of the address where the node's data plane listens: trtype, traddr, adrfam, trsvcid"}
	if !required {
		f.usage += "; unchanged when not given"
	}
	return f
}

var (
	backend = flag{name: "cn-backend-listener-conf", syntax: jsonText,
		usage: "`JSON` of another address where the node's data plane listens, for other controllers and no hosts, as its agent's " +
			"--backend-listener-conf says; other controllers connect where hosts do when not given"}
	newBackend = flag{name: "new-cn-backend-listener-conf",
		usage: "`JSON` of the address where other controllers connect from now on, while arrays serve, as the agent's " +
			"--backend-listener-conf says; '' is where hosts do; unchanged when not given"}
)

const listenerExample = `'{"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"4420"}'`
