package program

import (
	"runtime"
	"runtime/debug"
)

// version and commit are stamped by the build: -ldflags "-X PATH.version=v1.2.3".
var version, commit string

// Version says which build this is: the version, the commit and the version of
// Go. What was not stamped is taken from what Go itself records.
func Version() string {
	v, c, dirty := version, commit, ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && c == "":
				c = s.Value
			case s.Key == "vcs.modified" && s.Value == "true" && commit == "":
				dirty = ", modified"
			}
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	if c == "" {
		c = "unknown"
	}
	return v + " (commit " + c + dirty + ", " + runtime.Version() + ")"
}
