package dhchap

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// Hash is the hash function of responses (base 2.0, section 8.13.5.2).
type Hash uint8

// The hash functions.
const (
	SHA256 Hash = 1
	SHA384 Hash = 2
	SHA512 Hash = 3
)

var hashNames = [...]string{SHA256: "sha256", SHA384: "sha384", SHA512: "sha512"}

func (h Hash) valid() bool { return h >= SHA256 && h <= SHA512 }

// String returns SPDK's name of the hash.
func (h Hash) String() string {
	if h.valid() {
		return hashNames[h]
	}
	return fmt.Sprintf("hash 0x%02x", uint8(h))
}

// Size is the length of a response in bytes; 0 for an unknown hash.
func (h Hash) Size() int {
	if !h.valid() {
		return 0
	}
	return [...]int{SHA256: 32, SHA384: 48, SHA512: 64}[h]
}

func (h Hash) new() hash.Hash {
	switch h {
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	}
	panic("dhchap: " + h.String())
}

// Group is a Diffie-Hellman group (base 2.0, section 8.13.5.3).
type Group uint8

// The groups: none, or one of RFC 7919.
const (
	Null      Group = 0
	FFDHE2048 Group = 1
	FFDHE3072 Group = 2
	FFDHE4096 Group = 3
	FFDHE6144 Group = 4
	FFDHE8192 Group = 5
)

var groupNames = [...]string{"null", "ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"}

func (g Group) valid() bool { return int(g) < len(groupNames) }

// String returns SPDK's name of the group.
func (g Group) String() string {
	if g.valid() {
		return groupNames[g]
	}
	return fmt.Sprintf("group 0x%02x", uint8(g))
}

// Size is the length of a public value in bytes; 0 for the null group and for
// an unknown one.
func (g Group) Size() int {
	if !g.valid() {
		return 0
	}
	return [...]int{0, 256, 384, 512, 768, 1024}[g]
}

// Offer is what one side allows, in the order in which a controller prefers it.
type Offer struct {
	Hashes []Hash
	Groups []Group
}

// Defaults allows everything. The smallest group comes first, since both sides
// pay for more with each queue, and the null group last.
func Defaults() Offer {
	return Offer{
		Hashes: []Hash{SHA512, SHA384, SHA256},
		Groups: []Group{FFDHE2048, FFDHE3072, FFDHE4096, FFDHE6144, FFDHE8192, Null},
	}
}

// Only allows what is named, by SPDK's names, in the order of Defaults. A list
// that is nil leaves the offer's; an empty one, and a name that is unknown, is
// an error.
func (o Offer) Only(hashes, groups []string) (Offer, error) {
	var err error
	if hashes != nil {
		if o.Hashes, err = named("dhchap_digests", hashes, Defaults().Hashes); err != nil {
			return Offer{}, err
		}
	}
	if groups != nil {
		if o.Groups, err = named("dhchap_dhgroups", groups, Defaults().Groups); err != nil {
			return Offer{}, err
		}
	}
	return o, nil
}

func named[T fmt.Stringer](field string, names []string, of []T) ([]T, error) {
	all := make([]string, len(of))
	for i, v := range of {
		all[i] = v.String()
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("%s: %q is not one of %s", field, n, strings.Join(all, ", "))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s is empty; name at least one of %s", field, strings.Join(all, ", "))
	}
	var out []T
	for i, n := range all {
		if slices.Contains(names, n) {
			out = append(out, of[i])
		}
	}
	return out, nil
}

// Names returns SPDK's names of what is allowed.
func (o Offer) Names() (hashes, groups []string) {
	for _, h := range o.Hashes {
		hashes = append(hashes, h.String())
	}
	for _, g := range o.Groups {
		groups = append(groups, g.String())
	}
	return hashes, groups
}
