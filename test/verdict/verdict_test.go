package verdict

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestFails is no test of its own: TestTheVerdictComesLast runs it.
func TestFails(t *testing.T) {
	if os.Getenv("VERDICT_FAILS") == "" {
		return
	}
	v := New(t)
	t.Cleanup(func() { t.Log("a log of a clean-up") })
	defer func() {
		for i := range 100 {
			t.Logf("a line of logs %d", i)
		}
	}()
	v.Error("the first", "reason")
	v.Errorf("the %s", "second")
	v.Fatalf("the last: %s", strings.Repeat("a line of its output\n", 50)+"its end")
}

// TestTheVerdictComesLast runs a failing test and looks at the end of its output.
func TestTheVerdictComesLast(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.v", "-test.run", "^TestFails$")
	cmd.Env = append(os.Environ(), "VERDICT_FAILS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("the failing test passed:\n%s", out)
	}
	if !regexp.MustCompile(`\bverdict_test.go:[0-9]+: the first reason\n`).Match(out) {
		t.Errorf("the error is not reported where it was made:\n%s", out)
	}
	_, end, ok := strings.Cut(string(out), "TestFails, "+Mark+"\n")
	if !ok {
		t.Fatalf("no %q in\n%s", Mark, out)
	}
	const want = `the first reason
the second
the last: a line of its output
a line of its output
… 46 lines …
a line of its output
a line of its output
its end
--- FAIL: TestFails`
	var got []string
	for line := range strings.Lines(end) {
		got = append(got, strings.TrimSpace(line))
	}
	if !strings.HasPrefix(strings.Join(got, "\n"), want) {
		t.Errorf("the output ends with\n%s\nwant\n%s", end, want)
	}
}

func TestBrief(t *testing.T) {
	for _, c := range []struct {
		name, text string
		lines      int
		want       string
	}{
		{"nothing", "", 3, ""},
		{"as many lines as there may be", "a\nb\nc", 3, "a\nb\nc"},
		{"empty lines do not count", "a\n\n\nb\n \nc\n", 3, "a\nb\nc"},
		{"the begin and the end", "a\nb\nc\nd\ne\nf", 5, "a\nb\n… 2 lines …\ne\nf"},
		{"a long line", strings.Repeat("x", 400), 1, strings.Repeat("x", 300) + "…"},
		{"cut within a letter", strings.Repeat("x", 299) + "é", 1, strings.Repeat("x", 299) + "…"},
		{"not UTF-8", "a\xffb", 1, "a?b"},
	} {
		if got := Brief(c.text, c.lines); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
