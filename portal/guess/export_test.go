package guess

// Keys is how many keys are remembered.
func Keys(l *Limiter) int { return len(l.counts) }
