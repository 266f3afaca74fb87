package spdk

import "context"

// Questions ask for things by name. They go to the data plane in one piece: see Sequencer.
// The zero value has none.
type Questions struct {
	reqs  []Request
	heard []func(error) error // by request: hears of its error, or that its result is there
}

func (q *Questions) add(r Request, heard func(error) error) {
	q.reqs, q.heard = append(q.reqs, r), append(q.heard, heard)
}

// Bdev asks for the bdev of a name, alias or UUID, and has found called if there is one.
func (q *Questions) Bdev(name string, found func(*Bdev)) {
	r, answer := askBdev(name, 0)
	q.add(r, hear(answer, found))
}

// Controller asks for an NVMe controller.
func (q *Questions) Controller(name string, found func(*NvmeController)) {
	r, answer := askController(name)
	q.add(r, hear(answer, found))
}

// Subsystem asks for a subsystem by its NQN.
func (q *Questions) Subsystem(nqn string, found func(*NvmfSubsystem)) {
	r, answer := askSubsystem(nqn)
	q.add(r, hear(answer, found))
}

// Raids asks for the raids of a category, and has found called for each.
func (q *Questions) Raids(category string, found func(*Raid)) {
	r, l := askRaids(category)
	q.add(r, func(err error) error {
		for i := range *l {
			found(&(*l)[i])
		}
		return err
	})
}

func hear[T any](answer func(error) (*T, error), found func(*T)) func(error) error {
	return func(err error) error {
		thing, err := answer(err)
		switch {
		case err == nil:
			found(thing)
		case IsNoSuchDevice(err):
			return nil
		}
		return err
	}
}

// Ask sends the questions with send, which returns the error of each, and then has found called
// of one after the other. It returns the first error that does not say that there is no such thing.
func (q *Questions) Ask(ctx context.Context, send func(context.Context, ...Request) []error) error {
	if len(q.reqs) == 0 {
		return nil
	}
	var first error
	for i, err := range send(ctx, q.reqs...) {
		if err := q.heard[i](err); err != nil && first == nil {
			first = err
		}
	}
	return first
}
