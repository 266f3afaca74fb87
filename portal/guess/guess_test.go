package guess_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/portal/guess"
)

// TestGuessesAreSlow: of a hundred thousand guesses, one per 100 ms, as many are looked at as
// the limiter says, and another key is not held up.
func TestGuessesAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := guess.Limiter{Most: 10, Forgiven: 3 * time.Second}
		looked, begun := 0, time.Now()
		for range 100_000 {
			if l.Try("a") {
				looked++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if most := 10 + int(time.Since(begun)/(3*time.Second)); looked > most || looked < most-1 {
			t.Errorf("%d guesses were looked at; it must be %d", looked, most)
		}
		if l.Try("a") || !l.Try("b") {
			t.Error("keys are not counted apart")
		}
		time.Sleep(3 * time.Second)
		if !l.Try("a") || l.Try("a") {
			t.Error("after three seconds it must be one more")
		}
		for range 100 { // one who knows the secret is not slowed down
			if !l.Try("c") {
				t.Fatal("right ones count")
			}
			l.Right("c")
		}
	})
}

// TestManyOrigins: a stranger who comes from ever other addresses fills no memory.
func TestManyOrigins(t *testing.T) {
	l := guess.Limiter{Most: 1, Forgiven: time.Hour}
	for i := range 100_000 {
		if !l.Try(fmt.Sprint(i)) {
			t.Fatalf("the first of %d is refused", i)
		}
	}
	if n := guess.Keys(&l); n > 10_000 {
		t.Errorf("%d are remembered", n)
	}
}
