package portal_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

func ptr[T any](v T) *T { return &v }

// TestInvalid sends what can never work: each is refused with the field, the
// value and what is right, and nothing is left behind.
func TestInvalid(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	before := count(t, c.Store)
	calls := c.Agent("dn0:9720").Calls() + c.Agent("cn0:9820").Calls()

	listener := func(change string) string {
		l := map[string]string{"trtype": `"tcp"`, "traddr": `"192.0.2.9"`, "adrfam": `"ipv4"`, "trsvcid": `"4420"`}
		key, value, _ := strings.Cut(change, "=")
		l[key] = value
		s := ""
		for k, v := range l {
			if v != "" {
				s += `,"` + k + `":` + v
			}
		}
		return "{" + s[1:] + "}"
	}
	dn := func(name, conf, location string) func() error {
		return func() error {
			_, err := client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: name, DnListenerConf: conf, Location: location})
			return err
		}
	}
	cn := func(name, conf string) func() error {
		return func() error {
			_, err := client.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: name, CnListenerConf: conf})
			return err
		}
	}
	pd := func(name, conf string) func() error {
		return func() error {
			_, err := client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn0:9720", PdName: name, PdConf: conf})
			return err
		}
	}
	da := func(req *apiv1.CreateDaRequest) func() error {
		return func() error { _, err := client.CreateDa(ctx, req); return err }
	}
	sized := func(size uint64, conf string) func() error {
		return da(&apiv1.CreateDaRequest{DaName: "x", DaSize: size, DaConf: conf})
	}
	exp := func(da, name, nqn string) func() error {
		return func() error {
			_, err := client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: da, ExpName: name, InitiatorNqn: nqn})
			return err
		}
	}
	const ok, host = "h:1", "nqn.2016-06.io.spdk:host0"
	good, malloc := listener(`trtype="tcp"`), `{"type":"malloc","size":134217728}`
	for name, tt := range map[string]struct {
		do    func() error
		words []string
	}{
		"dn name missing":         {dn("", good, ""), []string{"dn_name", "missing", "192.168.0.14:9720"}},
		"dn name without port":    {dn("host", good, ""), []string{"dn_name", `"host"`, "host:port"}},
		"dn name port 0":          {dn("host:0", good, ""), []string{"dn_name", "1 to 65535"}},
		"dn name port 70000":      {dn("host:70000", good, ""), []string{"dn_name", `"70000"`}},
		"dn name with slash":      {dn("a/b:1", good, ""), []string{"dn_name", "a/b"}},
		"dn name Chinese":         {dn("节点:9720", good, ""), []string{"dn_name", "节点"}},
		"dn name 300 long":        {dn(strings.Repeat("a", 300)+":1", good, ""), []string{"dn_name", "(302 characters)"}},
		"dn name unspecified":     {dn("0.0.0.0:1", good, ""), []string{"dn_name"}},
		"location with a space":   {dn(ok, good, "rack 1"), []string{"location", `"rack 1"`}},
		"location 200 long":       {dn(ok, good, strings.Repeat("r", 200)), []string{"location", "128"}},
		"listener missing":        {dn(ok, "", ""), []string{"dn_listener_conf", "missing", "trtype"}},
		"listener broken":         {dn(ok, `{"trtype":`, ""), []string{"dn_listener_conf", "not valid JSON"}},
		"listener no object":      {dn(ok, `[1]`, ""), []string{"dn_listener_conf", "not a JSON object"}},
		"listener with a tail":    {dn(ok, good+"x", ""), []string{"dn_listener_conf", "after the closing brace"}},
		"listener key twice":      {dn(ok, `{"trtype":"tcp","trtype":"tcp"}`, ""), []string{"twice"}},
		"listener unknown key":    {dn(ok, listener(`trsvcID="1"`), ""), []string{`unknown key "trsvcID"`}},
		"listener missing key":    {cn(ok, listener("traddr=")), []string{"cn_listener_conf", `lacks the key "traddr"`}},
		"listener port a number":  {cn(ok, listener("trsvcid=4420")), []string{"trsvcid", "double quotes"}},
		"listener port too large": {cn(ok, listener(`trsvcid="65536"`)), []string{"trsvcid", `"65536"`}},
		"listener port octal":     {cn(ok, listener(`trsvcid="04420"`)), []string{"trsvcid"}},
		"listener rdma":           {cn(ok, listener(`trtype="rdma"`)), []string{"trtype", `"rdma"`, `"tcp"`}},
		"listener adrfam":         {cn(ok, listener(`adrfam="inet"`)), []string{"adrfam", `"inet"`, `"ipv4" or "ipv6"`}},
		"listener host name":      {cn(ok, listener(`traddr="cn0"`)), []string{"traddr", `"cn0"`, "ipv4 address"}},
		"listener wrong family":   {cn(ok, listener(`traddr="fd00::1"`)), []string{"traddr", "fd00::1", "ipv4"}},
		"listener any address":    {cn(ok, listener(`traddr="0.0.0.0"`)), []string{"traddr", "connect to"}},
		"listener broadcast":      {cn(ok, listener(`traddr="255.255.255.255"`)), []string{"traddr", "broadcast"}},
		"listener mapped":         {cn(ok, strings.Replace(listener(`traddr="::ffff:192.0.2.9"`), "ipv4", "ipv6", 1)), []string{"traddr", "it must be 192.0.2.9"}},
		"listener zone":           {cn(ok, strings.Replace(listener(`traddr="fe80::1%lo"`), "ipv4", "ipv6", 1)), []string{"traddr", "zone %lo"}},
		"listener link-local":     {cn(ok, strings.Replace(listener(`traddr="fe80::1"`), "ipv4", "ipv6", 1)), []string{"traddr", "link-local"}},

		"pd name with slash":  {pd("a/b", malloc), []string{"pd_name", `"a/b"`, `"/"`}},
		"pd name with dash":   {pd("-a", malloc), []string{"pd_name", "begins with"}},
		"pd without type":     {pd("p", `{"size":134217728}`), []string{"pd_conf", `"type"`}},
		"pd type":             {pd("p", `{"type":"disk"}`), []string{"pd_conf", `"disk"`, "malloc"}},
		"pd malloc no size":   {pd("p", `{"type":"malloc"}`), []string{"pd_conf", `"size"`}},
		"pd malloc odd size":  {pd("p", `{"type":"malloc","size":134217729}`), []string{"134217729", "134217728", "134221824"}},
		"pd malloc too small": {pd("p", `{"type":"malloc","size":4096}`), []string{"4096", "at least 2097152"}},
		"pd malloc negative":  {pd("p", `{"type":"malloc","size":-1}`), []string{`"size"`, "-1"}},
		"pd malloc text":      {pd("p", `{"type":"malloc","size":"1G"}`), []string{`"size"`, "whole number"}},
		"pd malloc fraction":  {pd("p", `{"type":"malloc","size":1.5}`), []string{`"size"`, "1.5"}},
		"pd malloc filename":  {pd("p", `{"type":"malloc","size":134217728,"filename":"/x"}`), []string{"unknown key", "filename"}},
		"pd aio relative":     {pd("p", `{"type":"aio","filename":"x"}`), []string{"filename", `"x"`, "absolute"}},
		"pd aio newline":      {pd("p", `{"type":"aio","filename":"/dev/sd\nb"}`), []string{"filename", `"/dev/sd\nb"`, "control characters"}},
		"pd aio dots":         {pd("p", `{"type":"aio","filename":"/a/../b"}`), []string{"filename"}},
		"pd aio cache": {pd("p", `{"type":"aio","filename":"/dev/sdb","volatile_cache":"yes"}`), []string{"volatile_cache", `"yes"`,
			`"accepted"`}},
		"pd malloc wipe":  {pd("p", `{"type":"malloc","size":134217728,"wipe":true}`), []string{"unknown key", "wipe"}},
		"pd wipe text":    {pd("p", `{"type":"aio","filename":"/dev/sdb","wipe":"true"}`), []string{`"wipe"`, "true or false"}},
		"pd lost":         {pd("p", `{"type":"aio","filename":"/dev/sdb","lost":true}`), []string{"unknown key", "lost"}},
		"pd nvme name":    {pd("p", `{"type":"nvme","traddr":"nvme0"}`), []string{"traddr", "0000:5e:00.0"}},
		"pd cluster size": {pd("p", `{"type":"malloc","size":134217728,"cluster_size":3145728}`), []string{"cluster_size", "power of two"}},
		"da name missing": {da(&apiv1.CreateDaRequest{DaSize: 1 << 20}), []string{"da_name"}},
		"da name Chinese": {da(&apiv1.CreateDaRequest{DaName: "阵列", DaSize: 1 << 20}), []string{"da_name", "阵列", `"阵"`}},
		"da name 300 long": {da(&apiv1.CreateDaRequest{DaName: strings.Repeat("d", 300), DaSize: 1 << 20}),
			[]string{"da_name", "300 characters", "63"}},
		"da size 0":             {sized(0, ""), []string{"da_size", "1048576"}},
		"da size odd":           {sized(3<<20+1, ""), []string{"da_size", "3145729", "3145728 and 4194304"}},
		"da size small":         {sized(4096, ""), []string{"da_size", "4096", "1048576"}},
		"da size odd at 64 GiB": {sized(64<<30+1<<20, ""), []string{"4194304", "68719476736 and 68723671040"}},
		"da size huge":          {sized(1<<60, ""), []string{"da_size", "1125899906842624"}},
		"da physical 0": {da(&apiv1.CreateDaRequest{DaName: "x", DaSize: 1 << 20, PhysicalSize: ptr(uint64(0))}),
			[]string{"physical_size"}},
		"da too thin": {da(&apiv1.CreateDaRequest{DaName: "x", DaSize: 130 << 20, PhysicalSize: ptr(uint64(2 << 20))}),
			[]string{"physical_size", "2097152", "3145728"}},
		"da 65 controllers":     {da(&apiv1.CreateDaRequest{DaName: "x", DaSize: 1 << 20, CntlrCnt: 65}), []string{"cntlr_cnt", "65"}},
		"da conf stripes 0":     {sized(1<<20, `{"stripe_count":0}`), []string{"stripe_count", "1 to 64"}},
		"da conf stripes 65":    {sized(1<<20, `{"stripe_count":65}`), []string{"stripe_count", "65"}},
		"da conf stripe 48":     {sized(1<<20, `{"stripe_size_kb":48}`), []string{"stripe_size_kb", "48", "power of two"}},
		"da conf stripe 2":      {sized(1<<20, `{"stripe_size_kb":2}`), []string{"stripe_size_kb"}},
		"da conf null":          {sized(1<<20, `{"stripe_count":null}`), []string{"stripe_count", "null"}},
		"da conf raid":          {sized(1<<20, `{"raid":1}`), []string{"unknown key", "raid"}},
		"exp name":              {exp("da0", "x y", host), []string{"exp_name", `" "`}},
		"exp initiator missing": {exp("da0", "x", ""), []string{"initiator_nqn", "missing"}},
		"exp initiator word":    {exp("da0", "x", "host0"), []string{"initiator_nqn", `"host0"`, "nqn.YYYY-MM"}},
		"exp initiator month":   {exp("da0", "x", "nqn.2016-13.io.spdk:a"), []string{"initiator_nqn"}},
		"exp initiator long":    {exp("da0", "x", host+strings.Repeat("x", 223)), []string{"initiator_nqn", "223"}},
		"exp initiator uuid":    {exp("da0", "x", "nqn.2014-08.org.nvmexpress:uuid:1234"), []string{"initiator_nqn", "UUID"}},
		"exp initiator ours":    {exp("da0", "x", "nqn.2016-06.io.spdk:vda-cntlr-1-1"), []string{"initiator_nqn", "VDA's own"}},
		"list limit": {func() error { _, err := client.ListDa(ctx, &apiv1.ListDaRequest{Limit: 1001}); return err },
			[]string{"limit", "1001", "1000"}},
		"get what is not a name": {func() error { _, err := client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "a\x00b"}); return err },
			[]string{"da_name", `"\x00"`}},
		"delete without a name": {func() error { _, err := client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: "dn0:9720"}); return err },
			[]string{"pd_name", "missing"}},
		"list token": {func() error { _, err := client.ListDa(ctx, &apiv1.ListDaRequest{Token: "junk"}); return err },
			[]string{"token", "junk"}},
		"list location": {func() error { _, err := client.ListDn(ctx, &apiv1.ListDnRequest{Location: ptr("a\x00")}); return err },
			[]string{"location"}},
		"list initiator": {func() error {
			_, err := client.ListExp(ctx, &apiv1.ListExpRequest{InitiatorNqn: ptr("host")})
			return err
		}, []string{"initiator_nqn", `"host"`}},
		"modify nothing": {func() error {
			_, err := client.ModifyDn(ctx, &apiv1.ModifyDnRequest{DnName: "dn0:9720"})
			return err
		}, []string{"nothing to modify", "new_online"}},
	} {
		t.Run(name, func(t *testing.T) {
			refusal(t, tt.do(), codes.InvalidArgument, 2, tt.words...)
		})
	}
	if after := count(t, c.Store); after != before {
		t.Errorf("rows before %+v, after %+v", before, after)
	}
	if n := c.Agent("dn0:9720").Calls() + c.Agent("cn0:9820").Calls(); n != calls {
		t.Errorf("refused requests reached the nodes %d times", n-calls)
	}
}

// TestRefusedByState sends what is well formed but cannot be done now.
func TestRefusedByState(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	const host = "nqn.2014-08.org.nvmexpress:uuid:01234567-89ab-cdef-0123-456789abcdef"
	create := &apiv1.CreateDaRequest{DaName: "a", CntlrCnt: 2, DaSize: 4 << 20, DaConf: `{"stripe_count":2}`}
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, create))
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "a-b", DaSize: 4 << 20}))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "a-b", ExpName: "c", InitiatorNqn: host}))
	before := count(t, c.Store)

	for _, tt := range []struct {
		name  string
		do    func() error
		code  codes.Code
		reply int32
		words []string
	}{
		{"same da", func() error { _, err := client.CreateDa(ctx, create); return err }, codes.AlreadyExists, 5, []string{"exactly as asked"}},
		{"other da", func() error {
			_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "a", CntlrCnt: 1, DaSize: 5 << 20, DaConf: `{"stripe_count":2}`})
			return err
		}, codes.AlreadyExists, 4, []string{"da_size is 4194304, not 5242880", "cntlr_cnt is 2, not 1"}},
		{"same dn", func() error {
			_, err := client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: "dn0:9720", DnListenerConf: portaltest.Listener(4000)})
			return err
		}, codes.AlreadyExists, 5, nil},
		{"other dn", func() error {
			_, err := client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: "dn0:9720", DnListenerConf: portaltest.Listener(4000), Location: "r"})
			return err
		}, codes.AlreadyExists, 4, []string{"location"}},
		{"same pd, other spaces", func() error {
			_, err := client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn0:9720", PdName: "pd0", PdConf: `{"size": 134217728, "type": "malloc"}`})
			return err
		}, codes.AlreadyExists, 5, nil},
		{"address of another node", func() error {
			_, err := client.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: "new:1", CnListenerConf: portaltest.Listener(4001)})
			return err
		}, codes.AlreadyExists, 7, []string{"192.0.2.1", "4001", "dn dn1:9720"}},
		{"colliding NQN", func() error {
			_, err := client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "a", ExpName: "b-c", InitiatorNqn: host})
			return err
		}, codes.AlreadyExists, 6, []string{"vda-exp-a-b-c", "exp c of da a-b"}},
		{"same exp", func() error {
			_, err := client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "a-b", ExpName: "c", InitiatorNqn: host})
			return err
		}, codes.AlreadyExists, 5, nil},
		{"a snapshot that is not there", func() error {
			_, err := client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "a", ExpName: "s", InitiatorNqn: host, SnapName: "monday"})
			return err
		}, codes.NotFound, 3, []string{"monday"}},
		{"dn with pds", func() error {
			_, err := client.DeleteDn(ctx, &apiv1.DeleteDnRequest{DnName: "dn0:9720"})
			return err
		}, codes.FailedPrecondition, 9, []string{"pds: pd0"}},
		{"pd with vds", func() error {
			_, err := client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: "dn0:9720", PdName: "pd0"})
			return err
		}, codes.FailedPrecondition, 9, []string{"das: a"}},
		{"cn with controllers", func() error {
			_, err := client.DeleteCn(ctx, &apiv1.DeleteCnRequest{CnName: "cn0:9820"})
			return err
		}, codes.FailedPrecondition, 9, []string{"das: a"}},
		{"da with exps", func() error {
			_, err := client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "a-b"})
			return err
		}, codes.FailedPrecondition, 9, []string{"exps: c"}},
		{"rename of a da with exps", func() error {
			_, err := client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "a-b", NewDaName: ptr("z")})
			return err
		}, codes.FailedPrecondition, 9, []string{"c"}},
		{"address of a dn in use", func() error {
			_, err := client.ModifyDn(ctx, &apiv1.ModifyDnRequest{DnName: "dn0:9720", NewDnListenerConf: ptr(portaltest.Listener(9))})
			return err
		}, codes.FailedPrecondition, 9, []string{"das: a"}},
		{"unknown da", func() error { _, err := client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "nix"}); return err }, codes.NotFound, 3, []string{`"nix"`}},
		{"exp of unknown da", func() error {
			_, err := client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "nix", ExpName: "e", InitiatorNqn: host})
			return err
		}, codes.NotFound, 3, []string{`"nix"`}},
		{"pd of unknown dn", func() error {
			_, err := client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "no:1", PdName: "p", PdConf: `{"type":"malloc","size":134217728}`})
			return err
		}, codes.NotFound, 3, []string{`"no:1"`}},
		{"full cluster", func() error {
			_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "x", DaSize: 1 << 30})
			return err
		}, codes.ResourceExhausted, 10, []string{"1 vd of", "2 online pds"}},
		{"more controllers than cns", func() error {
			_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "x", DaSize: 1 << 20, CntlrCnt: 3})
			return err
		}, codes.ResourceExhausted, 10, []string{"3 controllers", "2 cns"}},
		{"strict with three vds on two locations", func() error {
			_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "x", DaSize: 1 << 20, DaConf: `{"stripe_count":3}`, Strict: true})
			return err
		}, codes.ResourceExhausted, 10, []string{"3 locations"}},
		{"failover of one controller", func() error {
			_, err := client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "a-b"})
			return err
		}, codes.FailedPrecondition, 8, []string{"one controller"}},
		{"failover to a stranger", func() error {
			_, err := client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "a", ToCn: "no:1"})
			return err
		}, codes.FailedPrecondition, 8, []string{`"no:1"`}},
	} {
		t.Run(tt.name, func(t *testing.T) { refusal(t, tt.do(), tt.code, tt.reply, tt.words...) })
	}
	if after := count(t, c.Store); after != before {
		t.Errorf("rows before %+v, after %+v", before, after)
	}
}
