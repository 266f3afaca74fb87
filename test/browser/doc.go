// Package browser looks at the portal's pages as people do: in a real Chromium, on
// a real cluster on this machine.
package browser
