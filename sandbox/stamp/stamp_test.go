package stamp

import "testing"

func TestStampTellsWrongBlocksApart(t *testing.T) {
	block := make([]byte, 4096)
	Put(block, 7, 3)
	if err := Check(block, 7, 3); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(){
		"another block":      func() { Put(block, 8, 3) },
		"an older writing":   func() { Put(block, 7, 2) },
		"a flipped bit":      func() { block[4000] ^= 1 },
		"zeros":              func() { clear(block) },
		"half of an old one": func() { old := make([]byte, 4096); Put(old, 7, 2); copy(block[2048:], old[2048:]) },
	} {
		Put(block, 7, 3)
		damage()
		if err := Check(block, 7, 3); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}
