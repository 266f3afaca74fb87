package vda

import "testing"

func TestVersionMarks(t *testing.T) {
	var m VersionMarks
	for v := uint64(10); v < 200; v++ {
		m = m.Next(v, 10)
		if m.Of(v) == "" || m.Of(10) == "" || len(m) > maxMarks {
			t.Fatalf("version %d: %d marks, %v", v, len(m), m)
		}
		read, err := ParseVersionMarks(m.String())
		if err != nil || read.String() != m.String() || len(m.String()) > 4000 {
			t.Fatalf("%q is read as %v, %v", m, read, err)
		}
	}
	first, last := m.Of(10), m.Of(199)
	for v, known := range map[uint64]bool{10: true, 11: true, 198: true, 199: true, 100: false, 9: false, 200: false} {
		if (m.Of(v) != "") != known {
			t.Errorf("the mark of version %d is %q", v, m.Of(v))
		}
	}
	if first == last {
		t.Error("marks are the same")
	}
	if again := m.Next(199, 10); again.Of(199) == last {
		t.Error("a version that is given a second time has the mark of the first")
	}
	if m = m.Next(200, 199); len(m) != 2 || m.Of(199) != last {
		t.Errorf("%v, when 199 was carried out", m)
	}
	if long := (VersionMarks{}).Next(1<<64-1, 0); 64*(len(long.String())+1) > 4000 {
		t.Errorf("64 of %q do not fit", long)
	}
	for _, bad := range []string{"x", "1", ":a", "1:a,", "-1:a"} {
		if m, err := ParseVersionMarks(bad); err == nil {
			t.Errorf("%q is read as %v", bad, m)
		}
	}
}
