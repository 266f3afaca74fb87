package store

import "github.com/virtual-disk-array/vda"

var (
	dnTable = nodeTable(vda.DiskNode)
	cnTable = nodeTable(vda.ControllerNode)
	// drainedDN is dnTable with what is only of dns.
	drainedDN = drained(dnTable)
	// countedCN is cnTable with the counts that rows of controllers keep.
	countedCN = counted(cnTable)
)

func nodeTable(k vda.NodeKind) table[vda.Node] {
	t := table[vda.Node]{
		name: "vda_" + string(k), noun: string(k),
		cols: []string{"id", "name", "addr", "listener", "location", "online", "version", "applied", "marks",
			"data_plane_version", "agent_version", "h_error", "h_msg", "h_since_us"},
		fixed: []string{"version", "applied", "marks", "h_error", "h_msg", "h_since_us"},
		dest: func(v *vda.Node) []any {
			return []any{&v.ID, &v.Name, &v.Addr, asJSON{&v.Listener}, &v.Location, &v.Online, &v.Version, &v.Applied, asMarks{&v.Marks},
				&v.DataPlaneVersion, &v.AgentVersion, &v.Health.Error, &v.Health.Msg, us{&v.Health.Since}}
		},
		values: func(v *vda.Node) []any {
			return []any{v.ID, v.Name, v.Addr, asJSON{&v.Listener}, v.Location, v.Online, v.Version, v.Applied, asMarks{&v.Marks},
				v.DataPlaneVersion, v.AgentVersion, v.Health.Error, CleanMsg(v.Health.Msg), us{&v.Health.Since}}
		},
		label:  func(v *vda.Node) string { return v.Name },
		tagged: true,
	}
	if k == vda.ControllerNode {
		dest, values := t.dest, t.values
		t.cols = append(t.cols, "backend")
		t.dest = func(v *vda.Node) []any { return append(dest(v), maybeJSON{&v.Backend}) }
		t.values = func(v *vda.Node) []any { return append(values(v), maybeJSON{&v.Backend}) }
	}
	return t
}

func drained(n table[vda.Node]) table[vda.DN] {
	return table[vda.DN]{
		name: n.name, noun: n.noun,
		cols:   append(n.cols[:len(n.cols):len(n.cols)], "drain"),
		fixed:  append(n.fixed[:len(n.fixed):len(n.fixed)], "drain"),
		dest:   func(v *vda.DN) []any { return append(n.dest(&v.Node), &v.Drain) },
		values: func(v *vda.DN) []any { return append(n.values(&v.Node), v.Drain) },
		label:  func(v *vda.DN) string { return v.Name },
	}
}

func counted(n table[vda.Node]) table[vda.CN] {
	return table[vda.CN]{
		name: n.name, noun: n.noun,
		cols:  append(n.cols[:len(n.cols):len(n.cols)], "cntlr_count", "primary_count", "mirrors", "auth", "reserves", "drain"),
		keys:  []string{"spread"},
		fixed: append(n.fixed[:len(n.fixed):len(n.fixed)], "cntlr_count", "primary_count", "mirrors", "auth", "reserves", "drain"),
		dest: func(v *vda.CN) []any {
			return append(n.dest(&v.Node), &v.CntlrCount, &v.PrimaryCount, &v.Mirrors, &v.Auth, &v.Reserves, &v.Drain)
		},
		values: func(v *vda.CN) []any {
			return append(n.values(&v.Node), v.CntlrCount, v.PrimaryCount, v.Mirrors, v.Auth, v.Reserves, v.Drain, spreadOf(v.ID))
		},
		label: func(v *vda.CN) string { return v.Name },
	}
}

// nodesOf is the table of a kind of nodes.
func nodesOf(k vda.NodeKind) *table[vda.Node] {
	if k == vda.DiskNode {
		return &dnTable
	}
	return &cnTable
}

func (t *sqlReader) ClusterID() (string, error) {
	rows, err := t.query("SELECT id FROM vda_cluster")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return "", t.fault(err)
		}
		return "", t.store.noSchema()
	}
	var id string
	if err := rows.Scan(&id); err != nil {
		return "", t.fault(err)
	}
	return id, nil
}

func (t *sqlReader) Node(k vda.NodeKind, id string) (*vda.Node, error) {
	return getRow(t, nodesOf(k), id, "id = ?", id)
}

func (t *sqlReader) NodeByName(k vda.NodeKind, name string) (*vda.Node, error) {
	return getRow(t, nodesOf(k), name, "name = ?", name)
}

func (t *sqlReader) DN(id string) (*vda.DN, error) {
	return getRow(t, &drainedDN, id, "id = ?", id)
}

func (t *sqlReader) CN(id string) (*vda.CN, error) { return getRow(t, &countedCN, id, "id = ?", id) }

func (t *sqlReader) ListDN(f NodeFilter, p Page) ([]vda.DN, string, error) {
	return pageRows(t, &drainedDN, f.cond(), p, func(v *vda.DN) (string, string) { return v.Name, v.ID })
}

func (t *sqlReader) ListCN(f NodeFilter, p Page) ([]vda.CN, string, error) {
	return pageRows(t, &countedCN, f.cond(), p, func(v *vda.CN) (string, string) { return v.Name, v.ID })
}

// NodesListening looks for the address in the columns' JSON: it reads all rows of the table and returns few.
func (t *sqlReader) NodesListening(k vda.NodeKind, traddr string) ([]vda.Node, error) {
	has := `%"traddr":"` + traddr + `"%`
	if k == vda.DiskNode {
		return listRows(t.unlocked(), nodesOf(k), "listener LIKE ?", has)
	}
	return listRows(t.unlocked(), nodesOf(k), "listener LIKE ? OR backend LIKE ?", has, has)
}

func (t *sqlTx) InsertNode(k vda.NodeKind, v *vda.Node) error {
	if k == vda.ControllerNode { // without any controllers
		return insertRow(t, &countedCN, &vda.CN{Node: *v})
	}
	return insertRow(t, &dnTable, v)
}

func (t *sqlTx) UpdateNode(k vda.NodeKind, v *vda.Node) error {
	ok, err := updateRow(t, nodesOf(k), v, "")
	return orNotFound(ok, err, string(k), v.ID)
}

func (t *sqlTx) DeleteNode(k vda.NodeKind, id string) error { return deleteRow(t, nodesOf(k), id) }

func (t *sqlTx) BumpNode(k vda.NodeKind, id string) (uint64, error) {
	tb := nodesOf(k)
	n, err := t.exec("UPDATE "+tb.name+" SET version = version + 1 WHERE id = ?", id)
	if err := orNotFound(n > 0, err, tb.noun, id); err != nil {
		return 0, err
	}
	return t.mark(tb, id)
}

// mark gives the version that a node has come to, whose row is locked, a mark.
func (t *sqlTx) mark(tb *table[vda.Node], id string) (version uint64, err error) {
	var applied uint64
	var marks vda.VersionMarks
	err = t.scanOne("SELECT version, applied, marks FROM "+tb.name+" WHERE id = ?", []any{id}, &version, &applied, asMarks{&marks})
	if err != nil {
		return 0, err
	}
	marks = marks.Next(version, applied)
	_, err = t.exec("UPDATE "+tb.name+" SET marks = ? WHERE id = ?", asMarks{&marks}, id)
	return version, err
}

// RaiseNode never takes a version back.
func (t *sqlTx) RaiseNode(k vda.NodeKind, id string, above uint64) error {
	tb := nodesOf(k)
	n, err := t.exec("UPDATE "+tb.name+" SET version = CASE WHEN version <= ? THEN ? ELSE version + 1 END WHERE id = ?", above, above+1, id)
	if err := orNotFound(n > 0, err, tb.noun, id); err != nil {
		return err
	}
	_, err = t.mark(tb, id)
	return err
}

// SetNodeApplied never takes an applied version back: replies may overtake each
// other.
func (t *sqlTx) SetNodeApplied(k vda.NodeKind, id string, version uint64) error {
	tb := nodesOf(k)
	n, err := t.exec("UPDATE "+tb.name+" SET applied = CASE WHEN applied < ? THEN ? ELSE applied END WHERE id = ?", version, version, id)
	return orNotFound(n > 0, err, tb.noun, id)
}

func (t *sqlTx) SetCNMirrors(id string, mirrors bool) error {
	n, err := t.exec("UPDATE vda_cn SET mirrors = ? WHERE id = ?", mirrors, id)
	return orNotFound(n > 0, err, "cn", id)
}

func (t *sqlTx) SetCNAuth(id string, auth bool) error {
	n, err := t.exec("UPDATE vda_cn SET auth = ? WHERE id = ?", auth, id)
	return orNotFound(n > 0, err, "cn", id)
}

func (t *sqlTx) SetCNReserves(id string, reserves bool) error {
	n, err := t.exec("UPDATE vda_cn SET reserves = ? WHERE id = ?", reserves, id)
	return orNotFound(n > 0, err, "cn", id)
}

func (t *sqlTx) SetDNDrain(id string, drain bool) error {
	n, err := t.exec("UPDATE vda_dn SET drain = ? WHERE id = ?", drain, id)
	return orNotFound(n > 0, err, "dn", id)
}

func (t *sqlTx) SetCNDrain(id string, drain vda.CNDrain) error {
	n, err := t.exec("UPDATE vda_cn SET drain = ? WHERE id = ?", drain, id)
	return orNotFound(n > 0, err, "cn", id)
}

func (f NodeFilter) cond() cond {
	var c cond
	if f.Location != nil {
		c.and("location = ?", *f.Location)
	}
	if f.Online != nil {
		c.and("online = ?", *f.Online)
	}
	if f.Error != nil {
		c.and("h_error = ?", *f.Error)
	}
	c.labels(f.Labels)
	return c
}

func orNotFound(ok bool, err error, noun, id string) error {
	if err == nil && !ok {
		return notFound(noun, id)
	}
	return err
}

// scanOne reads one row that must be there.
func (t *sqlReader) scanOne(q string, args []any, dest ...any) error {
	err := t.tx.QueryRowContext(t.ctx, t.store.target.dialect.rebind(q), args...).Scan(dest...)
	t.answered()
	if err != nil {
		return t.fault(err)
	}
	return nil
}
