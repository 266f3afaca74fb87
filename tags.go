package vda

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What an object's tags may be.
const (
	MaxLabels      = 64   // of an object
	MaxDescription = 1024 // bytes
	maxLabelName   = 63   // bytes of a key behind its prefix, and of a value
	maxLabelPrefix = 253  // bytes before the slash
)

// Tags are what users note of an object. Nothing of the cluster goes by them.
type Tags struct {
	Labels      map[string]string // nil when there are none
	Description string
}

// Empty reports that there is nothing in them.
func (t Tags) Empty() bool { return len(t.Labels) == 0 && t.Description == "" }

// LabelList is the labels as users write them, KEY=VALUE, by key.
func (t Tags) LabelList() []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(t.Labels)) {
		list = append(list, k+"="+t.Labels[k])
	}
	return list
}

// NewTags makes the tags that a create is given; labels are KEY=VALUE. The fields of
// the error are label and description.
func NewTags(labels []string, description string) (Tags, error) {
	t := Tags{Description: description}
	if err := checkDescription("description", description); err != nil {
		return t, err
	}
	for _, text := range labels {
		if key, removes := removed(text); removes {
			return t, invalid("label %q removes the label %s, which a new object does not have; write KEY=VALUE", Shorten(text, 80), key)
		}
	}
	return t, t.ChangeLabels(labels)
}

// ChangeLabels sets what is written KEY=VALUE and removes what is written KEY-, which
// need not be there. What a change says of a key it says once.
func (t *Tags) ChangeLabels(changes []string) error {
	labels := maps.Clone(t.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	said := map[string]string{}
	for _, text := range changes {
		key, value, sets := strings.Cut(text, "=")
		removes := false
		if !sets {
			if key, removes = removed(text); !removes {
				return invalid("label %q is neither KEY=VALUE, which sets a label, nor KEY-, which removes one", Shorten(text, 80))
			}
		}
		if err := checkLabelKey(text, key); err != nil {
			return err
		}
		if before, twice := said[key]; twice && before != text {
			return invalid("label is %q and %q: give the key %s once", Shorten(before, 80), Shorten(text, 80), key)
		}
		said[key] = text
		if removes {
			delete(labels, key)
			continue
		}
		if err := checkLabelValue(text, value); err != nil {
			return err
		}
		labels[key] = value
	}
	if len(labels) > MaxLabels {
		return invalid("label: the object would have %d labels; %d are the most", len(labels), MaxLabels)
	}
	if len(labels) == 0 {
		labels = nil
	}
	t.Labels = labels
	return nil
}

// Describe changes the description. The field of the error is new_description.
func (t *Tags) Describe(text string) error {
	t.Description = text
	return checkDescription("new_description", text)
}

// removed is the key of a label written KEY-.
func removed(text string) (key string, ok bool) {
	key, ok = strings.CutSuffix(text, "-")
	return key, ok && !strings.Contains(text, "=")
}

// LabelMatch selects objects by one label.
type LabelMatch struct {
	Key   string
	Value string // with Any: not looked at
	Any   bool   // whatever the value
	Not   bool   // those without such a label
}

// ParseLabelMatches reads what a list is asked for: KEY=VALUE; KEY!=VALUE, which also
// those have that lack the key; KEY; !KEY. The field of the error is label.
func ParseLabelMatches(texts []string) ([]LabelMatch, error) {
	if len(texts) > MaxLabels {
		return nil, invalid("label is given %d times; %d times are the most", len(texts), MaxLabels)
	}
	var all []LabelMatch
	for _, text := range texts {
		var m LabelMatch
		key, value, valued := strings.Cut(text, "=")
		if valued {
			m.Value = value
			key, m.Not = strings.CutSuffix(key, "!")
			if err := checkLabelValue(text, value); err != nil {
				return nil, err
			}
		} else {
			m.Any = true
			key, m.Not = strings.CutPrefix(key, "!")
		}
		if err := checkLabelKey(text, key); err != nil {
			return nil, err
		}
		m.Key = key
		all = append(all, m)
	}
	return all, nil
}

// checkLabelKey checks the key of a label that a user wrote as text.
func checkLabelKey(text, key string) error {
	prefix, name, prefixed := strings.Cut(key, "/")
	if !prefixed {
		name = key
	}
	if prefixed && (len(prefix) > maxLabelPrefix || !isDomain(prefix)) {
		return invalid("label %q: what stands before the slash must be a domain name in lower case, like example.com, of at most %d bytes",
			Shorten(text, 80), maxLabelPrefix)
	}
	if name == "" || !isLabelWord(name) {
		return invalid("label %q: the key %q must be 1 to %d letters, digits, '-', '_' and '.', with a letter or digit at both ends; "+
			"a domain name and a slash may stand before it", Shorten(text, 80), Shorten(key, 80), maxLabelName)
	}
	return nil
}

func checkLabelValue(text, value string) error {
	if value != "" && !isLabelWord(value) {
		return invalid("label %q: the value %q must be empty, or 1 to %d letters, digits, '-', '_' and '.', with a letter or digit at both ends",
			Shorten(text, 80), Shorten(value, 80), maxLabelName)
	}
	return nil
}

func isLabelWord(s string) bool {
	for i := range len(s) {
		inside := i > 0 && i < len(s)-1 && strings.IndexByte("-_.", s[i]) >= 0
		if !inside && !isAlnum(s[i]) {
			return false
		}
	}
	return len(s) <= maxLabelName
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isDomain(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || strings.ToLower(part) != part || strings.ContainsAny(part, "_") || !isLabelWord(part) {
			return false
		}
	}
	return true
}

func checkDescription(field, text string) error {
	switch {
	case len(text) > MaxDescription:
		return invalid("%s is %d bytes long; %d are the most", field, len(text), MaxDescription)
	case !utf8.ValidString(text):
		return invalid("%s is not valid UTF-8", field)
	}
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return invalid("%s has the control character %U; it is text, which may have line ends and tabs", field, r)
		}
	}
	return nil
}
