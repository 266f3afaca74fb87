package cli

import (
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// nouns are the first words of a command.
var nouns = []struct{ name, short string }{
	{"dn", "Disk nodes: servers with disks"},
	{"pd", "Physical disks of disk nodes"},
	{"vd", "Virtual disks: pieces of physical disks that arrays stand on"},
	{"cn", "Controller nodes: servers that run controllers of disk arrays"},
	{"da", "Disk arrays: what hosts use as block devices"},
	{"snap", "Snapshots: what was on a disk array at one moment"},
	{"exp", "Exporters: the way of one host to a disk array"},
	{"cluster", "The cluster as a whole"},
	{"user", "Those who may give orders in a secured cluster"},
	{"session", "Sessions of users who have logged in"},
	{"orphan", "What nodes have and the database does not know, as after restoring a backup"},
	{"event", "What happened in the cluster"},
	{"alert", "What is wrong now"},
	{"audit", "What users changed, or wanted to"},
	{"syncup", "Bring nodes to their desired state now"},
	{"support", "What helps to find out what is wrong"},
	{"context", "Clusters that this user has named: portals, token and CA of each"},
}

// command is one leaf: a method of the portal.
type command struct {
	noun, verb string
	method     string
	short      string
	long       string
	example    string
	flags      []flag
	wait       *waiting // of one that begins what takes its time
	// text prints the reply for people, as it is printed when no format is asked for;
	// nil: as JSON then.
	text func(w io.Writer, reply proto.Message)
	// none is for a list that is printed as a table when no format is asked for: what is
	// printed of an empty one.
	none string
	// ill says why a reply is not what the user hopes for: the exit status is 1. It has
	// been printed.
	ill func(reply proto.Message) *failure
	// prepare sets what no flag does.
	prepare func(req proto.Message)
	// goesOn is for one that a person at a terminal sees again and again.
	goesOn bool
	// forms are what --as chooses from, and how each prints the reply; the first is the
	// usual one. With -o, the reply itself is printed.
	forms []form
}

// path is what a user types.
func (c *command) path() string { return strings.TrimSpace(c.noun + " " + c.verb) }

// moves is what may be changed of a node's addresses.
const moves = `
The listener, where the data plane is, cannot be changed while arrays use the node.
The address of its agent can, once the agent runs there with the --state-dir that it
has had. The name stays.`

// roles are those of users.
var roles = []string{"admin", "operator", "viewer", "csi"}

var commands = []command{
	{noun: "dn", verb: "create", method: "CreateDn", wait: &createdDn, short: "Add a disk node",
		long: "\nThe node exists even when its agent does not answer; then the reply says so,\nand vda_monitor goes on trying. A name like dn0 " +
			"with --dn-addr stays when the agent\nmoves (dn modify --new-dn-addr); without --dn-addr the name is the HOST:PORT of\nthe agent.",
		example: "  vda_cli dn create --dn-name 192.168.0.14:9720 --dn-listener-conf " + listenerExample + " --location rack1\n" +
			"  vda_cli dn create dn0 --dn-addr 192.168.0.14:9720 --traddr 192.168.0.14 --trsvcid 4420",
		flags: with([]flag{dnName, dnAddr, listener("dn-listener-conf", true), location, online}, newTags...)},
	{noun: "dn", verb: "delete", method: "DeleteDn", short: "Remove a disk node that has no physical disks",
		long: "\nWith --force a node that is lost for good goes with its disks, and with what was\ndeleted on it and waits for its " +
			"confirmation. Arrays that use its disks are deleted\nfirst. A disk of it that turns up again is refused by pd create until " +
			"it is wiped.",
		example: "  vda_cli dn delete --dn-name 192.168.0.14:9720", flags: []flag{dnName, force}},
	{noun: "dn", verb: "modify", method: "ModifyDn", short: "Change a disk node",
		long: moves,
		example: "  vda_cli dn modify --dn-name 192.168.0.14:9720 --new-online false\n" +
			"  vda_cli dn modify dn0 --new-dn-addr 192.168.0.24:9720\n" +
			"  vda_cli dn modify --dn-name 192.168.0.14:9720 --label rack=r12 --label retired- --new-description 'spare PSU'",
		flags: with([]flag{dnName, newDnAddr, listener("new-dn-listener-conf", false),
			{name: "new-location", usage: "`FAILURE-DOMAIN` for what is placed from now on; unchanged when not given"}, newOnline}, tags...)},
	{noun: "dn", verb: "list", method: "ListDn", short: "List disk nodes by name",
		example: "  vda_cli dn list --error true -o table", flags: []flag{limit, token, locFilter, onlineFilter, errorFilter, labelFilter}},
	{noun: "dn", verb: "get", method: "GetDn", short: "Show a disk node and its physical disks",
		example: "  vda_cli dn get --dn-name 192.168.0.14:9720", flags: []flag{dnName}},
	{noun: "dn", verb: "describe", method: "GetDn", short: "Show a disk node, its physical disks and what is on them as a tree",
		text: describeDn, prepare: func(req proto.Message) { req.(*apiv1.GetDnRequest).WithVds = true },
		long:    "\nOf each virtual disk it shows the array that it is of, its size and state, and its role\nif it is a leg of a mirror.",
		example: "  vda_cli dn describe 192.168.0.14:9720", flags: []flag{dnName}},
	{noun: "dn", verb: "drain", method: "DrainDn", short: "Have all virtual disks leave a disk node while their arrays serve",
		wait: &drainedDn,
		long: "\nThe node takes no new virtual disks, and vda_monitor moves those that are on it to\nother nodes, a few at a time, the " +
			"smallest first. What cannot move is listed with\nthe reason and tried again until it can. When the node has none left it " +
			"can be\nswitched off, or its pds and then it deleted. dn get shows how far it is.",
		example: "  vda_cli dn drain --dn-name 192.168.0.14:9720 --wait", flags: []flag{dnName}},
	{noun: "dn", verb: "undrain", method: "UndrainDn", short: "End the drain of a disk node, and place virtual disks on it again",
		long:    "\nMoves that are under way from it are undone, but for those that are as good as done;\nalso those that vd move began.",
		example: "  vda_cli dn undrain --dn-name 192.168.0.14:9720", flags: []flag{dnName}},

	{noun: "pd", verb: "create", method: "CreatePd", wait: &createdPd, short: "Add a physical disk to a disk node, and format it",
		long: "\nThe disk is formatted and stamped with the ids of the cluster and of the pd. It has\nto be blank: any other is refused " +
			"with what was found on it, and the pd shows that\nerror. If nothing of that is needed, delete the pd and create it again " +
			"with\n\"wipe\":true in its conf: what was shown is wiped then, and nothing else.",
		example: `  vda_cli pd create --dn-name 192.168.0.14:9720 --pd-name pd0 --pd-conf '{"type":"malloc","size":134217728}'
  vda_cli pd create --dn-name 192.168.0.14:9720 --pd-name pd1 --pd-conf '{"type":"aio","filename":"/dev/sdb"}'
  vda_cli pd create --dn-name 192.168.0.14:9720 --pd-name pd1 --pd-conf '{"type":"aio","filename":"/dev/sdb","wipe":true}'`,
		flags: with([]flag{dnName, pdName, {name: "pd-conf", syntax: jsonText, required: true,
			usage: "`JSON` of what the disk is: type malloc with size, aio with filename and perhaps size, nvme with traddr (PCI " +
				"address); perhaps cluster_size; for aio and nvme perhaps wipe true, after a refusal has shown what is on the disk and " +
				"it may go, and volatile_cache accepted"}, online}, newTags...)},
	{noun: "pd", verb: "delete", method: "DeletePd", wait: &deletedPd, short: "Remove a physical disk that no array uses",
		long: "\nIts disk is left blank. With --force the disk is lost: nothing on it is waited for,\nand vds of deleted arrays on it " +
			"go with it. Arrays that use it are deleted first.\n--force also takes a pd that was deleted before and that its node has " +
			"not confirmed.\nA disk that turns up again is refused by pd create until it is wiped.",
		example: "  vda_cli pd delete --dn-name 192.168.0.14:9720 --pd-name pd0", flags: []flag{dnName, pdName, lost}},
	{noun: "pd", verb: "modify", method: "ModifyPd", short: "Change a physical disk",
		example: "  vda_cli pd modify --dn-name 192.168.0.14:9720 --pd-name pd0 --new-online false",
		flags:   with([]flag{dnName, pdName, newOnline}, tags...)},
	{noun: "pd", verb: "list", method: "ListPd", short: "List physical disks by name",
		example: "  vda_cli pd list --dn-name 192.168.0.14:9720",
		flags: []flag{limit, token, optional(dnName, "only those of the disk node of this `NAME`; all when not given"),
			onlineFilter, errorFilter, labelFilter}},
	{noun: "pd", verb: "get", method: "GetPd", short: "Show a physical disk",
		example: "  vda_cli pd get --dn-name 192.168.0.14:9720 --pd-name pd0", flags: []flag{dnName, pdName}},
	{noun: "pd", verb: "discover", method: "DiscoverPd", short: "Show the disks of a disk node: which are free, and why others are not",
		none: "No disk.",
		long: "\nIt looks at the block devices of the machine, and at the files that lie in the folders\nin which its agent may use files. " +
			"Nothing is written. What is free can be given to pd\ncreate by its PATH; pd create itself looks again. NVMe devices that a " +
			"user-space driver\nhas are not shown.",
		example: "  vda_cli pd discover 192.168.0.14:9720\n  vda_cli pd discover 192.168.0.14:9720 -o " +
			"jsonpath='{.disk_msg_list[*].pd_conf}'",
		flags: []flag{dnName}},
	{noun: "pd", verb: "drain", method: "DrainPd", short: "Have all virtual disks leave a physical disk while their arrays serve",
		wait:    &drainedPd,
		long:    "\nThey move to other disk nodes, as with dn drain. pd get shows how far it is.",
		example: "  vda_cli pd drain --dn-name 192.168.0.14:9720 --pd-name pd0 --wait", flags: []flag{dnName, pdName}},
	{noun: "pd", verb: "undrain", method: "UndrainPd", short: "End the drain of a physical disk, and place virtual disks on it again",
		example: "  vda_cli pd undrain --dn-name 192.168.0.14:9720 --pd-name pd0", flags: []flag{dnName, pdName}},

	{noun: "vd", verb: "move", method: "MoveVd", short: "Move a virtual disk to another disk node while its array serves", wait: &movedVd,
		long: "\nA new virtual disk is made there and copied to. When it has all data it takes the\nplace of the old one, which is " +
			"deleted. Without --to-dn and --to-pd a place is\nchosen as for a new array. --cancel ends a move that is under way.",
		example: "  vda_cli vd move --vd-id 019ac5b8f9f07d0c8a54d1c3b2a19e01 --to-dn 192.168.0.15:9720 --to-pd pd0 --wait",
		flags: []flag{vdID, {name: "to-dn", usage: "`NAME` of the disk node to move to; any when not given"},
			{name: "to-pd", usage: "`NAME` of the physical disk to move to, of the node given or the only one of that name; any when " +
				"not given"},
			{name: "cancel", syntax: onOff, usage: "end the move instead, and undo what of it is under way; the vd moves when not given"}}},
	{noun: "vd", verb: "get", method: "GetVd", short: "Show a virtual disk",
		example: "  vda_cli vd get --vd-id 019ac5b8f9f07d0c8a54d1c3b2a19e01", flags: []flag{vdID}},

	{noun: "cn", verb: "create", method: "CreateCn", wait: &createdCn, short: "Add a controller node",
		long: "\nThe node exists even when its agent does not answer; then the reply says so,\nand vda_monitor goes on trying. A name like cn0 " +
			"with --cn-addr stays when the agent\nmoves (cn modify --new-cn-addr); without --cn-addr the name is the HOST:PORT of\nthe agent.",
		example: `  vda_cli cn create --cn-name 192.168.0.16:9820 --cn-listener-conf ` +
			`'{"trtype":"tcp","traddr":"192.168.0.16","adrfam":"ipv4","trsvcid":"4430"}'` + "\n" +
			"  vda_cli cn create cn0 --cn-addr 192.168.0.16:9820 --traddr 192.168.0.16 --trsvcid 4430",
		flags: with([]flag{cnName, cnAddr, listener("cn-listener-conf", true), backend, location, online}, newTags...)},
	{noun: "cn", verb: "delete", method: "DeleteCn", short: "Remove a controller node that runs no controllers",
		long: "\nWith --force a node that is lost for good goes with the controllers that were\ndeleted on it and wait for its " +
			"confirmation.",
		example: "  vda_cli cn delete --cn-name 192.168.0.16:9820", flags: []flag{cnName, force}},
	{noun: "cn", verb: "modify", method: "ModifyCn", short: "Change a controller node",
		long:    moves,
		example: "  vda_cli cn modify --cn-name 192.168.0.16:9820 --new-online false\n  vda_cli cn modify cn0 --new-cn-addr 192.168.0.26:9820",
		flags: with([]flag{cnName, newCnAddr, listener("new-cn-listener-conf", false), newBackend,
			{name: "new-location", usage: "`FAILURE-DOMAIN` for what is placed from now on; unchanged when not given"}, newOnline}, tags...)},
	{noun: "cn", verb: "drain", method: "DrainCn", short: "Have all primaries leave a controller node while their arrays serve",
		wait: &drainedCn,
		long: "\nThe node takes no new controllers, and vda_monitor moves the primaries on it to other\ncontrollers of their arrays. " +
			"Then its " +
			"programs can be restarted without an error on\nhosts that are connected to all controllers (exp connect); cn undrain takes " +
			"it back.\nWith --cntlrs all its controllers are replaced on other nodes, to remove it for good:\nhosts have to connect to the " +
			"new ones before another node is drained so. cn get\nshows how far it is, and what cannot leave.",
		example: "  vda_cli cn drain --cn-name 192.168.0.16:9820 --wait",
		flags: []flag{cnName, {name: "cntlrs", syntax: onOff,
			usage: "replace all controllers that are on it, on other nodes; only primaries leave when not given"}}},
	{noun: "cn", verb: "undrain", method: "UndrainCn", short: "End the drain of a controller node, and place controllers on it again",
		long:    "\nWhat has moved stays where it is; da failover moves a primary back.",
		example: "  vda_cli cn undrain --cn-name 192.168.0.16:9820", flags: []flag{cnName}},
	{noun: "cn", verb: "list", method: "ListCn", short: "List controller nodes by name",
		example: "  vda_cli cn list -o table", flags: []flag{limit, token, locFilter, onlineFilter, errorFilter, labelFilter}},
	{noun: "cn", verb: "get", method: "GetCn", short: "Show a controller node",
		example: "  vda_cli cn get --cn-name 192.168.0.16:9820", flags: []flag{cnName}},
	{noun: "cn", verb: "describe", method: "GetCn", short: "Show a controller node and what it serves as a tree", text: describeCn,
		prepare: func(req proto.Message) { req.(*apiv1.GetCnRequest).WithCntlrs = true },
		long: "\nOf each controller it shows the array that it is of, whether it is its primary and else\nwhere that is, its state, and " +
			"the exporters that hosts reach through it.",
		example: "  vda_cli cn describe 192.168.0.16:9820", flags: []flag{cnName}},

	{noun: "da", verb: "create", method: "CreateDa", wait: &createdDa, short: "Make a disk array",
		long: "\nIts disks are spread over locations as far as there are some; the reply warns\nwhere that was not possible. With a " +
			"physical size below the array's the array is\nthin: writes fail when the physical size is used up.\n\nWith --redundancy " +
			"mirror:2 or mirror:3 each block is on that many disk nodes, always\ndistinct ones, and the array outlives the loss of all " +
			"but one of them. It takes as\nmuch more space. Its controllers are on nodes whose data plane is vda_tgt. A\nstripe_count above " +
			"1 in --da-conf stripes over that many mirrors.\n\nWith --from-snap or --from-da the array is a clone, which can be used at " +
			"once and is\ncopied meanwhile: da get shows copied_size of copy_size. Its source is not deleted until\nthen. Size, redundancy " +
			"and stripes are its own.",
		example: `  vda_cli da create --da-name da0 --cntlr-cnt 2 --da-size 33554432 --physical-size 33554432 ` +
			`--da-conf '{"stripe_count":2, "stripe_size_kb":64}'
  vda_cli da create --da-name da1 --da-size 1T --physical-size 100G --strict
  vda_cli da create --da-name da2 --cntlr-cnt 2 --da-size 1T --redundancy mirror:2
  vda_cli da create --da-name da3 --cntlr-cnt 2 --from-snap da0/monday`,
		flags: with(append([]flag{daName,
			{name: "cntlr-cnt", usage: "`N` controllers, each on a controller node of its own", def: "1", min: 1},
			{name: "da-size", syntax: sizeText,
				usage: "`SIZE` that the host sees, in bytes or like 32M; a multiple of 1 MiB, and of 4 MiB from 64 GiB on. Required, " +
					"but for a " +
					"clone, which has its source's when not given"},
			{name: "from-snap", usage: "`ARRAY/SNAPSHOT` that the array begins with; zeros when not given"},
			{name: "from-da", usage: "`ARRAY` with whose contents of now the array begins; zeros when not given"},
			{name: "physical-size", syntax: sizeText, usage: "`SIZE` to set aside, in bytes or like 32M", def: "the array's size"},
			{name: "da-conf", syntax: jsonText, usage: "`JSON` of how the array is striped", def: `{"stripe_count":1,"stripe_size_kb":64}`},
			{name: "strict", syntax: onOff, usage: "refuse when the array cannot be spread over distinct locations; warn when not given"},
			{name: "redundancy", def: "none", values: []string{"none", "mirror:2", "mirror:3"},
				usage: "`REDUNDANCY` of the array: none, mirror:2 or mirror:3, which keep each block on 2 or 3 disk nodes"},
			{name: "min-legs", def: "1", min: 1,
				usage: "`N` legs with all data that the cluster leaves each mirror at least; I/O waits rather than go on with less"},
			{name: "reservations", syntax: onOff, usage: "hosts may make NVMe reservations, which hold by all controllers of the array; these " +
				"stay on nodes that run vda_tgt. No reservations when not given"}},
			with(autoGrow("; not at all when not given", "; 20 when not given"), limits(", as when not given")...)...), newTags...)},
	{noun: "da", verb: "delete", method: "DeleteDa", wait: &deletedDa,
		short: "Remove a disk array without exporters and snapshots, and all data on it",
		long: "\nWith --keep nobody can use it from now on and its name is free, but da undelete brings\nit back with its data until " +
			"that time has passed. Its space is free after that.",
		example: "  vda_cli da delete --da-name da0\n  vda_cli da delete --da-name da0 --keep 24h",
		flags: []flag{daName, {name: "keep", usage: "`TIME` for which da undelete can bring it back, like 90m, 24h or 7d; deleted at once " +
			"when not given"}}},
	{noun: "da", verb: "undelete", method: "UndeleteDa", short: "Bring a disk array back that was deleted with --keep, with its data",
		example: "  vda_cli da undelete --da-name da0",
		flags: []flag{daName, {name: "da-id", usage: "`ID` of the array, as da list --trash shows it; the only one of that name when " +
			"not given"},
			{name: "new-da-name", usage: "new `NAME`, when another array has its own by now; its own when not given"}}},
	{noun: "da", verb: "modify", method: "ModifyDa", short: "Change the name, size, limits, redundancy or labels of a disk array",
		wait: &changedDa,
		long: "\nWith --redundancy an array that serves gets more legs, which are copied to, or goes\non with fewer. It is refused when a " +
			"column has not all its legs, when there are too\nfew disk nodes with room, and when a controller is on a data plane that " +
			"cannot\nmirror. The old number of legs, given again, ends a change that is under way.\n\n" +
			"It can be renamed while it has no exporters. Limits hold for all its hosts together,\nwhatever controllers they use, from " +
			"the reply on; I/O beyond them waits. --rebuild-mbps holds\nfor a rebuild that is under way, and whatever controller goes " +
			"on with " +
			"it.\n" +
			"It grows while hosts use it: they see the new size without connecting again. It never shrinks.\n" +
			"--physical-size, alone, adds virtual disks to it while it serves: a thin array has more\nroom then, and another one can grow " +
			"further. A thin array with --auto-grow gets more by itself.",
		example: "  vda_cli da modify --da-name da0 --redundancy mirror:2 --wait\n  vda_cli da modify --da-name da0 --new-da-name da9\n" +
			"  vda_cli da modify --da-name da9 --rw-ios-per-sec 20000 --w-mbytes-per-sec 100\n  vda_cli da modify --da-name da9 " +
			"--rebuild-mbps 50",
		flags: with(append([]flag{daName, {name: "new-da-name", usage: "new `NAME`; unchanged when not given"},
			{name: "da-size", syntax: sizeText, usage: "`SIZE` that hosts see from now on, in bytes or like 32M, greater than it is, " +
				"and at most " +
				"the physical size unless the array is thin; unchanged when not given"},
			{name: "physical-size", syntax: sizeText, usage: "`SIZE` to set aside from now on, greater than it is, or as it is to " +
				"take back what " +
				"has not been added yet; unchanged when not given"},
			{name: "redundancy", values: []string{"none", "mirror:2", "mirror:3"},
				usage: "`REDUNDANCY` from now on: none, mirror:2 or mirror:3; unchanged when not given"},
			{name: "min-legs", min: 1, usage: "`N` legs with all data that the cluster leaves each mirror at least; unchanged when " +
				"not given, " +
				"or as many as there are"},
			{name: "reservations", syntax: onOff, usage: "hosts may make NVMe reservations, which hold by all controllers; =false ends " +
				"those that there are at once; unchanged when not given"}},
			with(autoGrow(", 0 to end it; unchanged when not given", "; unchanged when not given"), limits("; unchanged when not "+
				"given")...)...),
			tags...)},
	{noun: "da", verb: "list", method: "ListDa", short: "List disk arrays by name",
		example: "  vda_cli da list --limit 10 -o table\n  vda_cli da list --label env=prod --label tier!=test",
		flags: []flag{limit, token, errorFilter, labelFilter, {name: "trash", syntax: onOff,
			usage: "list those that da delete --keep has put away instead, and when they go; not those when not given"}}},
	{noun: "da", verb: "get", method: "GetDa", short: "Show a disk array with its virtual disks, controllers and exporters",
		example: "  vda_cli da get --da-name da0", flags: []flag{daName}},
	{noun: "da", verb: "describe", method: "GetDa", short: "Show what a disk array is made of as a tree", text: describeDa,
		long: "\nIts groups with the virtual disks and where they are, controllers, exporters and\nsnapshots; what is not well has an " +
			"exclamation mark and the reason.",
		example: "  vda_cli da describe da0", flags: []flag{daName}},
	{noun: "da", verb: "failover", method: "FailoverDa", short: "Move the primary of a disk array to another of its controllers",
		example: "  vda_cli da failover --da-name da0 --to-cn 192.168.0.17:9820",
		flags: []flag{daName, {name: "to-cn",
			usage: "`NAME` of the controller node to move to; any healthy one of the array when not given"}}},
	{noun: "da", verb: "recover", method: "RecoverDa", short: "Go on with a leg of a mirror that lacks writes, as the others are lost",
		long: "\nThe array goes on with what is on the vd given, and copies that to all other legs\nof its column. Writes that were " +
			"acknowledged and are not on it are lost: a file system\nor database on the array has to be checked. It is refused while a " +
			"leg with all data\nis well; when one may come back, wait for it. Nothing does this by itself.",
		example: "  vda_cli da recover --da-name da0 --vd-id 019ac5b8f9f07d0c8a54d1c3b2a19e01 --accept-data-loss",
		flags: []flag{daName, {name: "vd-id", required: true, usage: "`ID` of the vd to go on with, as da get shows it"},
			{name: "accept-data-loss", syntax: order, usage: "writes that are not on the vd may be lost; refused when not given"}}},
	{noun: "da", verb: "scrub", method: "ScrubDa", short: "Compare the legs of a mirrored array while it serves", wait: &scrubbedDa,
		long: "\nda get shows how far it is, and in scrub_msg_list what was found. The array is in error\nwhile legs are known to differ. " +
			"Of three legs the one that differs from the other two\nis repaired. Of two nobody knows which is right: they are left as " +
			"they are unless\n--repair-from names the vd to repair from; then its column alone is scrubbed. What is\nread is bounded as " +
			"rebuilds are. A scrub ends when the primary moves.",
		example: "  vda_cli da scrub --da-name da0 --wait",
		flags: []flag{daName,
			{name: "stop", syntax: onOff, usage: "end the scrub that is running; what it has found stays. One begins when not given"},
			{name: "repair-from", usage: "`ID` of the vd that the other legs of its column are repaired from wherever they differ; none when " +
				"not given"}}},

	{noun: "snap", verb: "create", method: "CreateSnap", short: "Take a snapshot of a disk array",
		long: "\nIt holds every write that was acknowledged before the command was given, and none\nthat is sent after it has returned, " +
			"by whichever controller. When the command fails,\nnone is left. To have a file system clean in it, freeze it meanwhile " +
			"(fsfreeze).\n\nWhat is written after a snapshot takes space of the array's physical size. An array\nthat is not thin " +
			"needs as much free as its size: make it with a larger\n--physical-size.\n\nSnapshots of several arrays show one instant: " +
			"what was " +
			"written to one after a write\nto another had been acknowledged is there only with that. The I/O of all is held\nmeanwhile: " +
			"pause_usec is for how long.\n\nWith --from-snap the snapshot is writable: a clone of that one, within the array. It is\n" +
			"there at once, takes clusters " +
			"of the physical size only for what is written to it, and is\nexported as any snapshot (exp create --snap-name).",
		example: "  vda_cli snap create --da-name da0 --snap-name monday\n  vda_cli snap create --da-name da0,da1 --snap-name monday\n" +
			"  vda_cli snap create --da-name da0 --snap-name try --from-snap monday",
		flags: with([]flag{{name: "da-name", required: true, usage: "`NAME` of the disk array, or of several, with commas between: " +
			"all are snapshotted\nat one instant"}, snapName, {name: "from-snap", usage: "`NAME` of a snapshot of the array that the new one " +
			"begins with, and that hosts may write to; it shows\nwhat is on the array now, and takes no writes, when not given"}}, newTags...)},
	{noun: "snap", verb: "delete", method: "DeleteSnap", wait: &deletedSnap, short: "Delete a snapshot that no exporter shows",
		long:    "\nSnapshots are deleted in any order: the others keep what they share with it. Writable\nones that were made of it go first.",
		example: "  vda_cli snap delete --da-name da0 --snap-name monday", flags: []flag{daName, snapName}},
	{noun: "snap", verb: "rollback", method: "RollbackSnap", short: "Make a disk array what a snapshot of it shows",
		long: "\nWhat was written to the array since is lost; snapshots, later ones too, stay. The\narray has to be without exporters " +
			"that show it: unmount it, exp delete, and\nexp create afterwards.",
		example: "  vda_cli snap rollback --da-name da0 --snap-name monday", flags: []flag{daName, snapName}},
	{noun: "snap", verb: "modify", method: "ModifySnap", short: "Rename a snapshot that no exporter shows, or change its labels",
		example: "  vda_cli snap modify --da-name da0 --snap-name monday --new-snap-name week48",
		flags:   with([]flag{daName, snapName, {name: "new-snap-name", usage: "new `NAME`; unchanged when not given"}}, tags...)},
	{noun: "snap", verb: "list", method: "ListSnap", short: "List snapshots by name",
		example: "  vda_cli snap list --da-name da0 -o table",
		flags: []flag{limit, token, optional(daName, "only those of the disk array with this `NAME`; all when not "+
			"given"), errorFilter, labelFilter}},
	{noun: "snap", verb: "get", method: "GetSnap", short: "Show a snapshot: whether it is taken, and the space that it holds",
		example: "  vda_cli snap get --da-name da0 --snap-name monday", flags: []flag{daName, snapName}},

	{noun: "exp", verb: "create", method: "CreateExp", wait: &createdExp, short: "Let a host use a disk array",
		example: "  vda_cli exp create --da-name da0 --exp-name exp0 --initiator-nqn nqn.2016-06.io.spdk:host0",
		flags: with([]flag{daName, expName,
			{name: "initiator-nqn", required: true, usage: "`NQN` of the host, the only one that is let in until exp modify adds " +
				"others; see /etc/nvme/hostnqn there"},
			{name: "snap-name", usage: "`NAME` of the snapshot to export, which takes no writes unless it is a writable one; the live array " +
				"when not given"},
			{name: "dhchap-key-file", field: "dhchap_key", syntax: secretFile, usage: "`FILE` with the key by which the host has to " +
				"authenticate " +
				"(nvme gen-dhchap-key), mode 0600, - for standard input; its NQN is enough when not given"},
			{name: "dhchap-ctrlr-key-file", field: "dhchap_ctrlr_key", syntax: secretFile, usage: "`FILE` with another key, by which the " +
				"controllers prove themselves to the host; they do not when not given"}}, newTags...)},
	{noun: "exp", verb: "delete", method: "DeleteExp", wait: &deletedExp, short: "End a host's use of a disk array; the host is disconnected",
		example: "  vda_cli exp delete --da-name da0 --exp-name exp0",
		flags: []flag{daName, expName,
			{name: "fence", syntax: onOff, usage: "fail until the host is disconnected and what it had sent has settled, and may be " +
				"repeated; " +
				"nodes that do not answer do not count when not given"}}},
	{noun: "exp", verb: "modify", method: "ModifyExp", short: "Change which hosts are let in; the others are disconnected",
		long: "\nThe reply comes when the connections of hosts that are not let in any more are closed,\nand what they had sent has settled. " +
			"Hosts that share an array need software that is made\nfor it, such as a cluster file system.",
		example: "  vda_cli exp modify --da-name da0 --exp-name exp0 --new-initiator-nqn nqn.2016-06.io.spdk:host1\n" +
			"  vda_cli exp modify --da-name da0 --exp-name exp0 --add-initiator-nqn nqn.2016-06.io.spdk:host2\n" +
			"  vda_cli exp modify --da-name da0 --exp-name exp0 --remove-initiator-nqn nqn.2016-06.io.spdk:host1\n" +
			"  vda_cli exp modify --da-name da0 --exp-name exp0 --dhchap-key-file host0.new.key\n" +
			"  vda_cli exp modify --da-name da0 --exp-name exp0 --drop-old-dhchap-key",
		flags: with([]flag{daName, expName,
			{name: "new-initiator-nqn", usage: "`NQN` of the one host that is let in from now on; the hosts stay when not given"},
			{name: "add-initiator-nqn", usage: "`NQN` of a host that is let in as well, may be given several times; none when not given"},
			{name: "remove-initiator-nqn", usage: "`NQN` of a host that is not let in any more, may be given several times; none when " +
				"not given"},
			{name: "dhchap-key-file", field: "dhchap_key", syntax: secretFile, usage: "`FILE` with another key of a host, or its " +
				"first, mode 0600, " +
				"- for standard input; its last one stays valid, too. Keys stay when not given"},
			{name: "dhchap-ctrlr-key-file", field: "dhchap_ctrlr_key", syntax: secretFile, usage: "`FILE` with another key of the " +
				"controllers " +
				"towards that host; it stays when not given"},
			{name: "dhchap-host", usage: "`NQN` of the host with that key; the one that is added, or the only one, when not given"},
			{name: "drop-old-dhchap-key", syntax: onOff, usage: "the host has " +
				"its new key: the one before is not valid any more; it stays when not given"},
		}, tags...)},
	{noun: "exp", verb: "list", method: "ListExp", short: "List exporters by name",
		example: "  vda_cli exp list --initiator-nqn nqn.2016-06.io.spdk:host0",
		flags: []flag{limit, token, optional(daName, "only those of the disk array with this `NAME`; all when not given"),
			{name: "initiator-nqn", usage: "only those of the host with this `NQN`; all when not given"}, errorFilter, labelFilter}},
	{noun: "exp", verb: "get", method: "GetExp", short: "Show an exporter: where its host connects to",
		example: "  vda_cli exp get --da-name da0 --exp-name exp0", flags: []flag{daName, expName}},

	{noun: "exp", verb: "connect", method: "GetExp", short: "Show how a host connects to an exporter", forms: connectForms,
		prepare: func(req proto.Message) { req.(*apiv1.GetExpRequest).WithNsUuid = true },
		long: "\nIt connects nothing: it prints commands for a shell of the host, or the host's\n/etc/nvme/config.json for nvme connect-all, " +
			"or a line of its /etc/fstab. The paths\nare all those that there are, also while some are down.",
		example: "  vda_cli exp connect da0/exp0\n  vda_cli exp connect da0/exp0 --as nvme-json", flags: []flag{daName, expName}},

	{noun: "orphan", verb: "list", method: "ListOrphan",
		short:   "List arrays, groups of vds, vds and pds that nodes have and the database does not know",
		example: "  vda_cli orphan list -o table"},
	{noun: "orphan", verb: "adopt", method: "AdoptOrphan",
		short: "Take an orphaned array, group of vds or pd into the database, with its data",
		long: "\nThe pds that an array is on are adopted before the array. Its exporters come\nback with it. A grp is a " +
			"group of vds by which an array got more physical size\nsince the backup.",
		example: "  vda_cli orphan adopt --orphan-id 019ac5b8f9f07d0c8a54d1c3b2a19e01", flags: []flag{orphanID, newName}},
	{noun: "orphan", verb: "delete", method: "DeleteOrphan", short: "Delete an orphaned array, vd or pd, with its data",
		example: "  vda_cli orphan delete --orphan-id 019ac5b8f9f07d0c8a54d1c3b2a19e01", flags: []flag{orphanID}},
	{noun: "cluster", verb: "secure", method: "SecureCluster", short: "Turn the plain cluster into a secured one while it serves, for good",
		long: "\nEach daemon must have its certificate, and a user must be an admin: docs/security.md\nhas the steps. Calls in the clear are " +
			"refused from then on, and the connections\nbetween nodes authenticate. I/O goes on. Of a secured cluster the command has the\n" +
			"keys of connections between nodes handed out again.",
		example: "  vda_cli cluster secure"},
	{noun: "user", verb: "create", method: "CreateUser", short: "Make a user who logs in with a password",
		long: "\nFor vda_cli login, and the web page. docs/security.md says what each role may do. Tokens\nof users are made by vda_db " +
			"--action user.",
		example: "  vda_cli user create ann --role operator --password-file -",
		flags: []flag{userName, {name: "role", usage: "`ROLE`: admin, operator, viewer or csi", required: true, values: roles},
			{name: "password-file", field: "password", syntax: secretFile, required: true, usage: "`FILE` with the password in its first " +
				"line, 12 to 256 characters, mode 0600; - asks at the terminal, or reads standard input"}}},
	{noun: "user", verb: "modify", method: "ModifyUser", short: "Change a user's role or password, which ends the user's sessions",
		example: "  vda_cli user modify ann --new-role viewer\n  vda_cli user modify ann --new-password-file ann.password",
		flags: []flag{userName, {name: "new-role", usage: "`ROLE`: admin, operator, viewer or csi; unchanged when not given", values: roles},
			{name: "new-password-file", field: "new_password", syntax: secretFile, usage: "`FILE` with the password in its first line, 12 to " +
				"256 characters, mode 0600; - asks at the terminal, or reads standard input; unchanged when not given"}}},
	{noun: "user", verb: "list", method: "ListUser", short: "List who may log in, and who has tokens", none: "No user.",
		example: "  vda_cli user list"},
	{noun: "user", verb: "passwd", method: "SetPassword", short: "Change one's own password, which ends all of one's sessions",
		long: "\nIt asks for the present password and the new one, and is for any user who has logged in,\nwhatever the role. Log in again " +
			"afterwards.",
		example: "  vda_cli user passwd",
		flags: []flag{{name: "password-file", field: "password", syntax: secretFile, def: "-", usage: "`FILE` with the present " +
			"password in its " +
			"first line, mode 0600; - asks at the terminal, or reads standard input"},
			{name: "new-password-file", field: "new_password", syntax: secretFile, def: "-", usage: "`FILE` with the new password in " +
				"its first line, " +
				"12 to 256 characters, mode 0600; - asks at the terminal, or reads standard input"}}},
	{noun: "session", verb: "list", method: "ListSession", short: "List one's sessions, as an admin those of all users", none: "No session.",
		long: "\nEach login, with vda_cli or on the web page, begins one; tokens are not sessions.", example: "  vda_cli session list"},
	{noun: "session", verb: "delete", method: "DeleteSession", short: "End a session of one's own, as an admin anybody's, at once",
		long: "\nIts token and its cookie are refused from then on.", example: "  vda_cli session delete 4f0c2a9be1d07f35",
		flags: []flag{{name: "session-id", usage: "`ID` of the session, of session list", required: true}}},
	{noun: "user", verb: "delete", method: "DeleteUser", short: "Take away a user's password, sessions and tokens, at once",
		example: "  vda_cli user delete ann", flags: []flag{userName}},
	{verb: "status", method: "GetStatus", short: "Show whether the cluster is well, and how full it is", text: statusText, ill: statusIll,
		long: "\nIt shows nodes, capacity by location, arrays by state, primaries per controller\nnode, and versions. The exit status is 1 " +
			"when anything is not well, and what it is\nis listed.",
		example: "  vda_cli status"},
	{verb: "version", method: "ListVersion", short: "Show the versions of all programs of the cluster", text: versionText,
		long:    "\nThe portal asks the monitors and the agents. The first line is this program's own\nversion, which --version shows alone.",
		example: "  vda_cli version"},
	{verb: "top", method: "GetTop", short: "Show what is read and written now, by node, array and disk", text: topText, goesOn: true,
		long: "\nThose with the most I/O are first: of arrays what hosts do, of a cn what passes through\nits paths, of disks and dns what " +
			"reaches the disks, VDA's own copying with it. A latency is\nthat of one request on average, THROTTLED the time in which some " +
			"waited for a limit of\nthe array. At a terminal it goes on until ctrl-c.",
		example: "  vda_cli top\n  vda_cli top --once --interval-ms 5000\n  vda_cli top -o jsonpath='{.da_top_msg_list[0].name}'",
		flags: []flag{{name: "interval-ms", def: "1000", usage: "measure for `N` milliseconds, 100 to 10000"},
			{name: "limit", def: "20", min: 1, usage: "show at most `N` arrays, and as many disks, up to 1000"}}},
	{noun: "event", verb: "list", method: "ListEvent", short: "Show what happened, the last first", none: "No event.",
		long: "\nEvents are nodes that go and come, failovers, legs of mirrors that are lost and\ncopied to, disks at fault, drains, scrubs, " +
			"and what users changed. docs/events.md has\nthe kinds. The cluster keeps the last 100,000.",
		example: "  vda_cli event list --since 24h --severity warning\n  vda_cli event list --name da0",
		flags: slices.Concat(eventFlags, []flag{
			{name: "since", usage: "not what is older than `TIME` like 24h, or before a moment like 2026-03-01T08:00:00Z; all when not given"},
			limit, token})},
	{noun: "event", verb: "watch", method: "WatchEvent", short: "Show what happens, as it happens",
		long: "\nIt ends with ctrl-c. When the portal is lost it goes on with another one of\n--addr-port, and nothing is missed. " +
			"With -o json " +
			"each event is an object of its own.",
		example: "  vda_cli event watch --severity warning",
		flags: slices.Concat(eventFlags, []flag{
			{name: "after", usage: "begin behind the event with this `ID`; with what happens from now on when not given"},
			{name: "limit", usage: "end after `N` events; never when not given"}})},
	{noun: "alert", verb: "list", method: "ListAlert", short: "Show what is wrong now, the gravest first", none: "No alert.",
		long: "\nNodes and disks that are offline or drained on purpose are left out.\ndocs/alerts.md says what each " +
			"code means and what to do.",
		example: "  vda_cli alert list"},
	{noun: "audit", verb: "list", method: "ListEvent", short: "Show what users changed, or were refused, the last first", none: "No event.",
		long: "\nEach change is recorded with it, in one transaction: when, by which call, from\nwhich address, and what. The same " +
			"refusal is " +
			"recorded once per minute.",
		example: "  vda_cli audit list --since 24h",
		flags: []flag{{name: "name", field: "filter.name", usage: "only of the object `NAME` and what belongs to it; all when not given"},
			{name: "req-id", field: "filter.req_id", usage: "only of the request with this `ID`; all when not given"},
			{name: "since", usage: "not what is older than `TIME` like 24h, or before a moment like 2026-03-01T08:00:00Z; all when not given"},
			limit, token},
		prepare: func(req proto.Message) {
			r := req.(*apiv1.ListEventRequest)
			if r.Filter == nil {
				r.Filter = &apiv1.EventFilter{}
			}
			r.Filter.Audit = true
		}},
	{noun: "syncup", verb: "dn", method: "SyncupDn", short: "Bring a disk node to its desired state now",
		example: "  vda_cli syncup dn --dn-name 192.168.0.14:9720", flags: []flag{dnName, allowEmpty}},
	{noun: "syncup", verb: "cn", method: "SyncupCn", short: "Bring a controller node to its desired state now",
		example: "  vda_cli syncup cn --cn-name 192.168.0.16:9820", flags: []flag{cnName, allowEmpty}},
	{noun: "syncup", verb: "da", method: "SyncupDa", short: "Bring all nodes of a disk array to their desired state now",
		example: "  vda_cli syncup da --da-name da0", flags: []flag{daName}},
}
