// Command dashboards writes the dashboards for Grafana, from what is here:
//
//	go run ./packaging/dashboards docs/dashboards
//
// There is one of the cluster, of a node, of an array and of hosts' paths. They ask a Prometheus
// that scrapes portals, monitors and agents; docs/dashboards.md says how.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboards DIR")
		os.Exit(2)
	}
	for name, text := range files() {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), text, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "dashboards:", err)
			os.Exit(1)
		}
	}
}

// files are the dashboards by the names of their files.
func files() map[string][]byte {
	all := map[string][]byte{}
	for _, b := range boards {
		all[b.name+".json"] = b.json()
	}
	return all
}
