package main

import (
	"bytes"
	"encoding/json"
)

// board is a dashboard: rows of panels, from left to right and from the top.
type board struct {
	name, title string
	vars        []variable
	panels      []panel
}

// variable is chosen by who looks: a label of a metric.
type variable struct {
	name, label, query string // query: in Grafana's words, like label_values(metric, label)
	all                bool   // several may be chosen at once, and all are at first
}

// panel is one graph, or one number.
type panel struct {
	title, about string
	unit         string // Grafana's: short, Bps, iops, s, bytes, percentunit
	number       bool   // the last value, large
	queries      []query
}

type query struct{ expr, legend string }

// The parts of Grafana's format that are used.
type (
	source struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	gridPos struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	target struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
		RefID  string `json:"refId"`
	}
	defaults struct {
		Unit string `json:"unit"`
		Min  int    `json:"min"`
	}
	fieldConfig struct {
		Defaults defaults `json:"defaults"`
	}
	panelJSON struct {
		ID          int         `json:"id"`
		Type        string      `json:"type"`
		Title       string      `json:"title"`
		Description string      `json:"description,omitempty"`
		Datasource  source      `json:"datasource"`
		GridPos     gridPos     `json:"gridPos"`
		FieldConfig fieldConfig `json:"fieldConfig"`
		Targets     []target    `json:"targets"`
	}
	templateVar struct {
		Name       string  `json:"name"`
		Label      string  `json:"label"`
		Type       string  `json:"type"`
		Query      string  `json:"query"`
		Datasource *source `json:"datasource,omitempty"`
		Refresh    int     `json:"refresh,omitempty"`
		Sort       int     `json:"sort,omitempty"`
		Multi      bool    `json:"multi,omitempty"`
		IncludeAll bool    `json:"includeAll,omitempty"`
	}
	templating struct {
		List []templateVar `json:"list"`
	}
	timeRange struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	boardJSON struct {
		UID           string      `json:"uid"`
		Title         string      `json:"title"`
		Tags          []string    `json:"tags"`
		SchemaVersion int         `json:"schemaVersion"`
		Refresh       string      `json:"refresh"`
		Time          timeRange   `json:"time"`
		Templating    templating  `json:"templating"`
		Panels        []panelJSON `json:"panels"`
	}
)

// json is the dashboard as Grafana imports it.
func (b *board) json() []byte {
	prometheus := source{"prometheus", "${datasource}"}
	out := boardJSON{UID: "vda-" + b.name, Title: b.title, Tags: []string{"vda"}, SchemaVersion: 39, Refresh: "30s",
		Time: timeRange{"now-3h", "now"}}
	out.Templating.List = append(out.Templating.List, templateVar{Name: "datasource", Label: "Prometheus", Type: "datasource",
		Query: "prometheus"})
	for _, v := range b.vars {
		out.Templating.List = append(out.Templating.List, templateVar{Name: v.name, Label: v.label, Type: "query", Query: v.query,
			Datasource: &prometheus, Refresh: 2, Sort: 1, Multi: v.all, IncludeAll: v.all})
	}
	at := gridPos{}
	for i, p := range b.panels {
		j := panelJSON{ID: i + 1, Type: "timeseries", Title: p.title, Description: p.about, Datasource: prometheus,
			FieldConfig: fieldConfig{defaults{Unit: p.unit}}}
		size := gridPos{H: 8, W: 12}
		if p.number {
			j.Type, size = "stat", gridPos{H: 4, W: 4}
		}
		if at.X+size.W > 24 || at.H != 0 && at.H != size.H {
			at.X, at.Y = 0, at.Y+at.H
		}
		at.H = size.H
		j.GridPos = gridPos{H: size.H, W: size.W, X: at.X, Y: at.Y}
		at.X += size.W
		for k, q := range p.queries {
			j.Targets = append(j.Targets, target{q.expr, q.legend, string(rune('A' + k))})
		}
		out.Panels = append(out.Panels, j)
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(out); err != nil {
		panic(err) // it is made of strings and numbers
	}
	return text.Bytes()
}
