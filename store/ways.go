package store

import (
	"maps"
	"strings"

	"github.com/virtual-disk-array/vda"
)

// marks are n placeholders of a list.
func marks(n int) string { return strings.TrimPrefix(strings.Repeat(", ?", n), ", ") }

func anys(ids []string) []any {
	list := make([]any, len(ids))
	for i, id := range ids {
		list[i] = id
	}
	return list
}

func (t *sqlReader) WaysOfExps(expIDs []string) (all []Way, err error) {
	if len(expIDs) == 0 {
		return nil, nil
	}
	q := "SELECT e.exp_id, e.id, e.h_error, e.h_msg, e.h_since_us, c.idx, c.h_error, c.h_msg, c.h_since_us, " +
		"n.name, n.listener, n.h_error, n.h_msg, n.h_since_us " +
		"FROM vda_es e JOIN vda_cntlr c ON c.id = e.cntlr_id JOIN vda_cn n ON n.id = c.cn_id " +
		"WHERE e.exp_id IN (" + marks(len(expIDs)) + ") ORDER BY e.exp_id, c.idx"
	rows, err := t.unlocked().query(q, anys(expIDs)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w Way
		if err := rows.Scan(&w.ExpID, &w.ESID, &w.Health.Error, &w.Health.Msg, us{&w.Health.Since}, &w.CntlrIdx,
			&w.CntlrHealth.Error, &w.CntlrHealth.Msg, us{&w.CntlrHealth.Since},
			&w.CNName, asJSON{&w.Listener}, &w.CNHealth.Error, &w.CNHealth.Msg, us{&w.CNHealth.Since}); err != nil {
			return nil, t.fault(err)
		}
		all = append(all, w)
	}
	if err := rows.Err(); err != nil {
		return nil, t.fault(err)
	}
	return all, nil
}

func (t *sqlReader) DANames(ids []string) (map[string]string, error) { return t.names("vda_da", ids) }

func (t *sqlReader) NodeNames(ids []string) (map[string]string, error) {
	names, err := t.names("vda_cn", ids)
	if err != nil {
		return nil, err
	}
	dns, err := t.names("vda_dn", ids)
	maps.Copy(names, dns)
	return names, err
}

func (t *sqlReader) DAsOnNode(k vda.NodeKind, id string) (das []string, err error) {
	q := "SELECT DISTINCT da_id FROM vda_vd WHERE dn_id = ? ORDER BY da_id"
	if k == vda.ControllerNode {
		q = "SELECT DISTINCT da_id FROM vda_cntlr WHERE cn_id = ? ORDER BY da_id"
	}
	rows, err := t.unlocked().query(q, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var da string
		if err := rows.Scan(&da); err != nil {
			return nil, t.fault(err)
		}
		das = append(das, da)
	}
	if err := rows.Err(); err != nil {
		return nil, t.fault(err)
	}
	return das, nil
}

func (t *sqlReader) names(table string, ids []string) (map[string]string, error) {
	names := map[string]string{}
	if len(ids) == 0 {
		return names, nil
	}
	rows, err := t.unlocked().query("SELECT id, name FROM "+table+" WHERE id IN ("+marks(len(ids))+")", anys(ids)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, name string
		if err := rows.Scan(&id, &name); err != nil {
			return nil, t.fault(err)
		}
		names[id] = name
	}
	if err := rows.Err(); err != nil {
		return nil, t.fault(err)
	}
	return names, nil
}
