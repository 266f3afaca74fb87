package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/virtual-disk-array/vda/program"
)

// part is a flag that gives one key of a conf, so that nobody has to write JSON.
type part struct {
	name, usage string
	syntax      syntax
	needed      bool // when any part of the conf is given
}

// parts are the flags that can be given instead of a conf, and what makes the conf of them.
type parts struct {
	flags []part
	build func(given) (any, error)
}

// given are the parts on a command line, by their names.
type given map[string]*partValue

func (g given) text(name string) string {
	if v := g[name]; v != nil {
		return v.text
	}
	return ""
}

func (g given) number(name string) uint64 {
	if v := g[name]; v != nil {
		return v.number
	}
	return 0
}

// partValue is a pflag.Value.
type partValue struct {
	syntax syntax
	text   string
	number uint64
}

func (v *partValue) String() string { return v.text }

func (v *partValue) Type() string { return (&value{syntax: v.syntax}).Type() }

func (v *partValue) Set(text string) (err error) {
	switch v.syntax {
	case sizeText:
		v.number, err = parseBytes(text)
	case whole:
		if v.number, err = strconv.ParseUint(text, 10, 32); err != nil || v.number == 0 {
			err = errors.New("it must be a whole number, 1 or more")
		}
	case onOff, order:
		var on bool
		if on, err = strconv.ParseBool(text); err != nil {
			return errors.New("it must be true or false")
		}
		text = strconv.FormatBool(on)
	}
	v.text = text
	return err
}

// partsOf are those of a conf's flag, nil when it has none.
func partsOf(conf string) *parts {
	switch conf {
	case "dn-listener-conf", "cn-listener-conf":
		return listenerParts("", "")
	case "new-dn-listener-conf", "new-cn-listener-conf":
		return listenerParts("new-", "")
	case "cn-backend-listener-conf":
		return listenerParts("backend-", " for other controllers")
	case "new-cn-backend-listener-conf":
		return listenerParts("new-backend-", " for other controllers")
	case "pd-conf":
		return &pdParts
	case "da-conf":
		return &daParts
	}
	return nil
}

func listenerParts(prefix, whom string) *parts {
	return &parts{[]part{
		{name: prefix + "traddr", needed: true, usage: "`IP` address where the node's data plane listens" + whom + "; as in the JSON when not given"},
		{name: prefix + "trsvcid", needed: true, usage: "`PORT` where it listens" + whom + "; as in the JSON when not given"},
	}, func(g given) (any, error) {
		addr, err := netip.ParseAddr(g.text(prefix + "traddr"))
		if err != nil {
			return nil, fmt.Errorf("--%straddr %q: it must be an IP address, like 192.168.0.14", prefix, g.text(prefix+"traddr"))
		}
		family := either(addr.Is4(), "ipv4", "ipv6")
		return struct {
			Trtype  string `json:"trtype"`
			Traddr  string `json:"traddr"`
			Adrfam  string `json:"adrfam"`
			Trsvcid string `json:"trsvcid"`
		}{"tcp", g.text(prefix + "traddr"), family, g.text(prefix + "trsvcid")}, nil
	}}
}

var pdParts = parts{[]part{
	{name: "type", needed: true, usage: "`TYPE` of the disk: malloc, aio or nvme; as in the JSON when not given"},
	{name: "path", usage: "`PATH` of an aio disk, like /dev/sdb, or PCI address of an nvme one; malloc has none, as when not given"},
	{name: "size", syntax: sizeText, usage: "`SIZE` of a malloc disk, or of an aio file that is to be made, in bytes or like 128M; " +
		"the disk's own when not given"},
	{name: "cluster-size", syntax: sizeText, usage: "`SIZE` of a cluster, a power of two from 1M to 64M; as suits the disk " +
		"when not given"},
	{name: "volatile-cache", usage: "`accepted`: a disk is formatted that may lose writes that hosts flushed at a power cut, as SPDK " +
		"flushes none; such a block or NVMe device is refused when not given"},
	{name: "wipe", syntax: order, usage: "wipe what a refusal has shown to be on the disk; a disk that is not blank is refused " +
		"when not given"},
}, func(g given) (any, error) {
	conf := struct {
		Type        string `json:"type"`
		Filename    string `json:"filename,omitempty"`
		Traddr      string `json:"traddr,omitempty"`
		Size        uint64 `json:"size,omitempty"`
		ClusterSize uint64 `json:"cluster_size,omitempty"`
		Cache       string `json:"volatile_cache,omitempty"`
		Wipe        bool   `json:"wipe,omitempty"`
	}{g.text("type"), g.text("path"), "", g.number("size"), g.number("cluster-size"), g.text("volatile-cache"), g.text("wipe") == "true"}
	switch conf.Type {
	case "malloc", "aio":
	case "nvme":
		conf.Filename, conf.Traddr = "", conf.Filename
	default:
		return nil, fmt.Errorf("--type %q: it must be malloc, aio or nvme", conf.Type)
	}
	return conf, nil
}}

var daParts = parts{[]part{
	{name: "stripe-count", syntax: whole, usage: "`N` disks that the array is striped over, 1 to 64, instead of JSON; 1 when not given"},
	{name: "stripe-size", syntax: sizeText, usage: "`SIZE` of a stripe, a power of two from 4K to 1M, instead of JSON; 64K when not given"},
}, func(g given) (any, error) {
	size := g.number("stripe-size")
	if size%1024 != 0 || g["stripe-size"] != nil && size == 0 {
		return nil, fmt.Errorf("--stripe-size %q: it must be a power of two from 4K to 1M", g.text("stripe-size"))
	}
	return struct {
		Count  uint64 `json:"stripe_count,omitempty"`
		SizeKB uint64 `json:"stripe_size_kb,omitempty"`
	}{g.number("stripe-count"), size / 1024}, nil
}}

// add defines the flags.
func (p *parts) add(flags *pflag.FlagSet) {
	for _, f := range p.flags {
		flags.Var(&partValue{syntax: f.syntax}, f.name, f.usage)
		if f.syntax >= onOff {
			flags.Lookup(f.name).NoOptDefVal = "true"
		}
		if f.syntax == order {
			program.Typed(flags, f.name)
		}
	}
}

// fillConf sets a conf of a request from its parts.
func (f *flag) fillConf(flags *pflag.FlagSet, req proto.Message) error {
	p := partsOf(f.name)
	if p == nil {
		return nil
	}
	g, names, first := given{}, []string(nil), ""
	for _, part := range p.flags {
		if v := flags.Lookup(part.name); v.Changed {
			g[part.name] = v.Value.(*partValue)
			if first == "" {
				first = part.name
			}
		}
		if part.needed {
			names = append(names, "--"+part.name)
		}
	}
	whole := flags.Lookup(f.name).Changed
	switch {
	case len(g) == 0 && f.required && !whole:
		return fmt.Errorf("--%s is required, or %s instead", f.name, strings.Join(names, " and "))
	case len(g) == 0:
		return nil
	case whole:
		return fmt.Errorf("--%s and --%s say the same thing: give one of them", first, f.name)
	}
	for _, part := range p.flags {
		if part.needed && g[part.name] == nil {
			return fmt.Errorf("--%s is required with --%s", part.name, first)
		}
	}
	conf, err := p.build(g)
	if err != nil {
		return err
	}
	text, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	r := req.ProtoReflect()
	field := r.Descriptor().Fields().ByName(protoreflect.Name(strings.ReplaceAll(f.name, "-", "_")))
	r.Set(field, protoreflect.ValueOfString(string(text)))
	return nil
}
