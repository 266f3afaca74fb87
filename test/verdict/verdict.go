// Package verdict repeats at the end of a test's output why the test failed. The
// long tests on whole clusters print the logs of many daemons after the message
// that matters, and who reads a stored build often has the end of its output only.
package verdict

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

const (
	// Mark is in the line before the repeated messages; test/all.sh looks for it.
	Mark = "why it failed:"

	maxMessages = 4   // the first ones; what follows is mostly their consequence
	maxLines    = 6   // of each message
	maxColumns  = 300 // of each line
)

// T is a test that repeats its errors when it ends. Its methods are safe for
// concurrent use, as those of testing.T are.
type T struct {
	*testing.T
	mu   sync.Mutex
	said []string
}

// New returns a T that repeats the errors of t after all deferred functions and
// after all clean-ups that are registered later.
func New(t *testing.T) *T {
	v := &T{T: t}
	t.Cleanup(func() {
		if text := v.text(); text != "" {
			t.Log(text)
		}
	})
	return v
}

// Error is testing.T's.
func (v *T) Error(args ...any) {
	v.Helper()
	v.keep(fmt.Sprintln(args...))
	v.T.Error(args...)
}

// Errorf is testing.T's.
func (v *T) Errorf(format string, args ...any) {
	v.Helper()
	v.keep(fmt.Sprintf(format, args...))
	v.T.Errorf(format, args...)
}

// Fatal is testing.T's.
func (v *T) Fatal(args ...any) {
	v.Helper()
	v.keep(fmt.Sprintln(args...))
	v.T.Fatal(args...)
}

// Fatalf is testing.T's.
func (v *T) Fatalf(format string, args ...any) {
	v.Helper()
	v.keep(fmt.Sprintf(format, args...))
	v.T.Fatalf(format, args...)
}

func (v *T) keep(message string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said = append(v.said, Brief(message, maxLines))
}

// text is what is printed at the end, empty when nothing was reported.
func (v *T) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.said) == 0 {
		return ""
	}
	shown := v.said[:min(len(v.said), maxMessages)]
	text := v.Name() + ", " + Mark + "\n" + strings.Join(shown, "\n")
	if rest := len(v.said) - len(shown); rest > 0 {
		text += fmt.Sprintf("\nand %d more", rest)
	}
	return text
}

// Brief is at most that many lines of a text, from its begin and its end, and the
// begin of each. Empty lines are left out.
func Brief(text string, lines int) string {
	var all []string
	for line := range strings.Lines(text) {
		line = strings.ToValidUTF8(strings.TrimRight(line, " \t\r\n"), "?")
		if line == "" {
			continue
		}
		if len(line) > maxColumns {
			line = strings.ToValidUTF8(line[:maxColumns], "") + "…"
		}
		all = append(all, line)
	}
	if over := len(all) - lines; over > 0 {
		head := (lines - 1) / 2
		tail := lines - 1 - head
		left := fmt.Sprintf("… %d lines …", over+1)
		all = append(append(all[:head:head], left), all[len(all)-tail:]...)
	}
	return strings.Join(all, "\n")
}
