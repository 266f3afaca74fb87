package vda

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
)

// Listener is an NVMe-oF transport address in the words of SPDK's JSON-RPC:
// where a node's data plane listens. Validate has the spelling in which it is
// registered; apiv1 and spdk have what it becomes on their wires.
type Listener struct {
	TrType  string `json:"trtype"`
	TrAddr  string `json:"traddr"`
	AdrFam  string `json:"adrfam"`
	TrSvcID string `json:"trsvcid"`
}

const listenerForm = `like {"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"4420"}`

// ParseListener reads a dn's or cn's listener conf and validates it.
func ParseListener(field, text string) (Listener, error) {
	var l Listener
	o, err := parseObject(field, listenerForm, text)
	if err != nil {
		return l, err
	}
	if err := o.only("trtype", "traddr", "adrfam", "trsvcid"); err != nil {
		return l, err
	}
	for _, v := range []struct {
		key string
		to  *string
	}{{"trtype", &l.TrType}, {"traddr", &l.TrAddr}, {"adrfam", &l.AdrFam}, {"trsvcid", &l.TrSvcID}} {
		if *v.to, err = o.text(v.key); err != nil {
			return l, err
		}
	}
	return l, l.Validate(field)
}

// Validate brings l to the spelling in which it is registered, or says what is
// wrong with it: trtype and adrfam are in lower case, and traddr is the canonical
// spelling of an address that others can connect to.
func (l *Listener) Validate(field string) error {
	l.TrType, l.AdrFam = strings.ToLower(l.TrType), strings.ToLower(l.AdrFam)
	if l.TrType != "tcp" {
		return invalid("%s: trtype is %q; the only transport is \"tcp\"", field, Shorten(l.TrType, 40))
	}
	if l.AdrFam != "ipv4" && l.AdrFam != "ipv6" {
		return invalid("%s: adrfam is %q; it must be \"ipv4\" or \"ipv6\"", field, Shorten(l.AdrFam, 40))
	}
	_, at, err := ParseReachable(l.AdrFam, l.TrAddr)
	if err != nil {
		return invalid("%s: %v", field, err)
	}
	l.TrAddr = at
	if _, err := parsePort(l.TrSvcID); err != nil {
		return invalid("%s: trsvcid is %q; it must be a port, \"1\" to \"65535\"", field, Shorten(l.TrSvcID, 40))
	}
	return nil
}

// Same reports whether two listeners are reached at one address, however it is
// spelt.
func (l Listener) Same(o Listener) bool {
	return strings.EqualFold(l.TrType, o.TrType) && SameTraddr(l.TrAddr, o.TrAddr) && l.TrSvcID == o.TrSvcID
}

// String is host:port.
func (l Listener) String() string { return net.JoinHostPort(l.TrAddr, l.TrSvcID) }

// JSON is the conf as the tutorial prints it.
func (l Listener) JSON() string {
	b, err := json.Marshal(l)
	if err != nil { // four strings
		panic(err)
	}
	return string(b)
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && (n == 0 || s[0] == '0' || s[0] == '+') {
		err = strconv.ErrRange
	}
	return uint16(n), err
}
