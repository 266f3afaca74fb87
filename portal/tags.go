package portal

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// setTags notes the tags of an object that has just been made.
func setTags(tx store.Tx, id string, tags vda.Tags, err error) error {
	if err != nil || tags.Empty() {
		return err
	}
	return tx.SetTags(id, tags)
}

// tagChange is what a modify changes of an object's tags.
type tagChange struct {
	labels      []string
	description *string
}

const tagFields = "label or new_description"

func (c tagChange) none() bool { return len(c.labels) == 0 && c.description == nil }

// check refuses what is wrong whatever the object has, before anything is done.
func (c tagChange) check() error { return c.change(&vda.Tags{}) }

func (c tagChange) change(tags *vda.Tags) error {
	if c.description != nil {
		if err := tags.Describe(*c.description); err != nil {
			return err
		}
	}
	return tags.ChangeLabels(c.labels)
}

// apply changes the tags of an object, whose row or array the transaction has
// locked.
func (c tagChange) apply(tx store.Tx, id string) error {
	if c.none() {
		return nil
	}
	all, err := tx.Tags([]string{id})
	if err != nil {
		return err
	}
	tags := all[id]
	if err := c.change(&tags); err != nil {
		return err
	}
	return tx.SetTags(id, tags)
}

// existsTagged is exists for an object that has tags: they are parameters too.
func existsTagged(tx store.Reader, id string, tags vda.Tags, kind, name string, params ...parameter) error {
	all, err := tx.Tags([]string{id})
	if err != nil {
		return err
	}
	old := all[id]
	return exists(kind, name, append(params, parameter{"label", strings.Join(old.LabelList(), ","), strings.Join(tags.LabelList(), ",")},
		parameter{"description", vda.Shorten(old.Description, 80), vda.Shorten(tags.Description, 80)})...)
}

// describe shows the tags of objects in their messages, whose first field is the id.
func describe[M proto.Message](tx store.Reader, msgs ...M) error {
	byID := map[string]protoreflect.Message{}
	for _, m := range msgs {
		r := m.ProtoReflect()
		byID[r.Get(r.Descriptor().Fields().Get(0)).String()] = r
	}
	all, err := tx.Tags(slices.Sorted(maps.Keys(byID)))
	for id, tags := range all {
		r := byID[id]
		fields := r.Descriptor().Fields()
		list := r.Mutable(fields.ByName("label_list")).List()
		list.Truncate(0)
		for _, l := range tags.LabelList() {
			list.Append(protoreflect.ValueOfString(l))
		}
		r.Set(fields.ByName("description"), protoreflect.ValueOfString(tags.Description))
	}
	return err
}
