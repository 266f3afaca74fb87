package vda

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// VersionMark tells a version of a node's desired state from another that has the
// same number: a database that was restored from a backup counts on from there, and
// comes to numbers that it had given before, for other things.
type VersionMark struct {
	Version uint64
	Mark    string // random
}

// VersionMarks are those of a node's last versions, in ascending order: all since
// the last that the agent is known to hold, but for some in the middle when there
// are many.
type VersionMarks []VersionMark

// maxMarks bounds them. The first are what a restored database has in common with
// its nodes; they and the last stay.
const maxMarks = 64

// Next adds a mark for version, and drops those that no agent holds any more, as
// it has carried out applied.
func (m VersionMarks) Next(version, applied uint64) VersionMarks {
	m = slices.DeleteFunc(slices.Clone(m), func(v VersionMark) bool { return v.Version < applied || v.Version >= version })
	if len(m) >= maxMarks {
		m = slices.Delete(m, maxMarks/2, len(m)-maxMarks/2+1)
	}
	var mark [4]byte
	_, _ = rand.Read(mark[:]) // never fails
	return append(m, VersionMark{version, hex.EncodeToString(mark[:])})
}

// Of returns the mark of a version, "" when it is not known.
func (m VersionMarks) Of(version uint64) string {
	for _, v := range m {
		if v.Version == version {
			return v.Mark
		}
	}
	return ""
}

// String is how a database keeps them.
func (m VersionMarks) String() string {
	var all []string
	for _, v := range m {
		all = append(all, strconv.FormatUint(v.Version, 10)+":"+v.Mark)
	}
	return strings.Join(all, ",")
}

// ParseVersionMarks reads what String has made.
func ParseVersionMarks(text string) (m VersionMarks, err error) {
	if text == "" {
		return nil, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		number, mark, ok := strings.Cut(one, ":")
		version, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil {
			return nil, errors.New("marks " + strconv.Quote(Shorten(text, 40)) + " cannot be read")
		}
		m = append(m, VersionMark{version, mark})
	}
	return m, nil
}
