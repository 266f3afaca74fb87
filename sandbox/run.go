package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Run starts a cluster, populates it, proves it and stops it. With keep it
// waits for ctx to end before it stops; the end of ctx is not an error then. A step
// that fails is named in the error, with what the processes said last.
func Run(ctx context.Context, cfg Config, keep bool) (err error) {
	steps, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := cfg.Plan.Check(Nodes); err != nil {
		return err
	}
	fmt.Fprintf(cfg.Out, "Starting three disk nodes, two controller nodes, a portal and a monitor\n%s\n", cfg.Plan.Describe(Nodes))
	c, err := Start(steps, cfg)
	if err != nil {
		return fmt.Errorf("starting the cluster: %w", err)
	}
	defer func() {
		stopped := c.Stop()
		if err == nil && stopped == nil {
			c.say("\nStopped every process.")
		}
		err = errors.Join(err, stopped)
	}()
	c.say("\nCreating two disk arrays")
	if err := c.Populate(steps); err != nil {
		return c.fault("creating the arrays", err)
	}
	if err := c.Strangers(steps); err != nil {
		return c.fault("strangers", err)
	}
	c.say("\nProving them")
	figures, commands, err := c.Prove(steps)
	if err != nil {
		return c.fault("the proof", err)
	}
	if err := c.Mirror(steps); err != nil {
		return c.fault("the mirrored array", err)
	}
	c.Summary(figures, commands)
	if keep {
		c.say("\nThe cluster stays up until Ctrl-C. Its files are in %s. Reach it with\n\n%s", cfg.Dir, c.howToReach())
		<-ctx.Done()
	}
	return nil
}

// fault names the step that failed and adds the last lines of every log, for
// any of them may hold the reason.
func (c *Cluster) fault(step string, err error) error {
	err = fmt.Errorf("%s: %w", step, err)
	for _, p := range c.processes {
		err = fmt.Errorf("%w\n%s, last log lines:\n%s", err, p.name, p.tail(4))
	}
	return err
}
