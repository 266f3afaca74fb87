package store

import (
	"strings"

	"github.com/virtual-disk-array/vda"
)

func (t *sqlReader) Tags(ids []string) (map[string]vda.Tags, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	all := map[string]vda.Tags{}
	in := " WHERE object_id IN (" + marks(len(ids)) + ")"
	err := t.scanTags("SELECT object_id, label_key, label_value FROM vda_label"+in, ids, func(v [3]string) {
		tags := all[v[0]]
		if tags.Labels == nil {
			tags.Labels = map[string]string{}
		}
		tags.Labels[v[1]] = v[2]
		all[v[0]] = tags
	})
	if err != nil {
		return nil, err
	}
	err = t.scanTags("SELECT object_id, description, '' FROM vda_description"+in, ids, func(v [3]string) {
		tags := all[v[0]]
		tags.Description = v[1]
		all[v[0]] = tags
	})
	return all, err
}

// scanTags locks nothing.
func (t *sqlReader) scanTags(q string, ids []string, row func([3]string)) error {
	rows, err := t.unlocked().query(q, anys(ids)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var v [3]string
		if err := rows.Scan(&v[0], &v[1], &v[2]); err != nil {
			return t.fault(err)
		}
		row(v)
	}
	if err := rows.Err(); err != nil {
		return t.fault(err)
	}
	return nil
}

func (t *sqlTx) SetTags(id string, tags vda.Tags) error {
	if err := t.forgetTags(id); err != nil {
		return err
	}
	if len(tags.Labels) > 0 {
		var args []any
		for k, v := range tags.Labels {
			args = append(args, id, k, v)
		}
		q := "INSERT INTO vda_label (object_id, label_key, label_value) VALUES (?, ?, ?)" + strings.Repeat(", (?, ?, ?)", len(tags.Labels)-1)
		if _, err := t.exec(q, args...); err != nil {
			return err
		}
	}
	if tags.Description == "" {
		return nil
	}
	_, err := t.exec("INSERT INTO vda_description (object_id, description) VALUES (?, ?)", id, tags.Description)
	return err
}

func (t *sqlTx) forgetTags(id string) error {
	for _, table := range []string{"vda_label", "vda_description"} {
		if _, err := t.exec("DELETE FROM "+table+" WHERE object_id = ?", id); err != nil {
			return err
		}
	}
	return nil
}

// labels narrows a condition on objects to those with the labels given.
func (c *cond) labels(all []vda.LabelMatch) {
	for _, m := range all {
		in, with, args := " IN ", "label_key = ?", []any{m.Key}
		if m.Not {
			in = " NOT IN "
		}
		if !m.Any {
			with += " AND label_value = ?"
			args = append(args, m.Value)
		}
		c.and("id"+in+"(SELECT object_id FROM vda_label WHERE "+with+")", args...)
	}
}
