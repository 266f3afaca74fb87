package sandbox

import "testing"

func TestStampTellsWrongBlocksApart(t *testing.T) {
	block := make([]byte, 4096)
	stamp(block, 7, 3)
	if err := checkStamp(block, 7, 3); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(){
		"another block":      func() { stamp(block, 8, 3) },
		"an older writing":   func() { stamp(block, 7, 2) },
		"a flipped bit":      func() { block[4000] ^= 1 },
		"zeros":              func() { clear(block) },
		"half of an old one": func() { old := make([]byte, 4096); stamp(old, 7, 2); copy(block[2048:], old[2048:]) },
	} {
		stamp(block, 7, 3)
		damage()
		if err := checkStamp(block, 7, 3); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}
