//go:build e2e

package scale

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"slices"
	"sync"
)

// perProcess is how many models one process has: each takes a listener and a connection from the portal and from
// each monitor, and processes may have 20,000 files open, on some machines no more.
const perProcess = 2500

// asModels in the environment has the test's program be a process of models.
const asModels = "VDA_SCALE_MODELS"

// model is a node's agent as the test sees it.
type model struct {
	kind, addr string
	in         *modelProcess
}

// fleet is the models of all nodes, in as many processes as it takes.
type fleet struct {
	processes []*modelProcess
	count     int
}

// modelProcess is a process of models, which ends with its input.
type modelProcess struct {
	*process
	ask *rpc.Client
}

// pipe is the two ends that processes talk through.
type pipe struct {
	io.ReadCloser
	io.WriteCloser
}

// Close implements io.Closer.
func (p pipe) Close() error { return errors.Join(p.ReadCloser.Close(), p.WriteCloser.Close()) }

func startModels() (*modelProcess, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asModels+"=1", "GOGC=300")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{name: "models", cmd: cmd}
	p.kill = sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &modelProcess{p, rpc.NewClient(pipe{out, in})}, nil
}

// add starts the i-th model of a kind.
func (f *fleet) add(kind string, i int) (*model, error) {
	if f.count == perProcess*len(f.processes) {
		p, err := startModels()
		if err != nil {
			return nil, err
		}
		f.processes = append(f.processes, p)
	}
	f.count++
	m := &model{kind: kind, in: f.processes[len(f.processes)-1]}
	return m, m.in.ask.Call("Models.Add", NewModel{kind, i}, &m.addr)
}

// each asks the processes of some models about those of them that each has, all at once.
func (f *fleet) each(of []*model, method string) error {
	by := map[*modelProcess][]string{}
	for _, m := range of {
		by[m.in] = append(by[m.in], m.addr)
	}
	errs := make(chan error, len(by))
	for p, addrs := range by {
		go func() { errs <- p.ask.Call(method, addrs, &struct{}{}) }()
	}
	var err error
	for range by {
		err = errors.Join(err, <-errs)
	}
	return err
}

// kill cuts the connections of nodes and has them refuse others.
func (f *fleet) kill(of []*model) error { return f.each(of, "Models.Kill") }

// revive has nodes that were killed serve again.
func (f *fleet) revive(of []*model) error { return f.each(of, "Models.Revive") }

// seen is what the models have got, in all.
func (f *fleet) seen() (all Seen, err error) {
	for _, p := range f.processes {
		var s Seen
		if err := p.ask.Call("Models.Seen", struct{}{}, &s); err != nil {
			return all, err
		}
		all.Calls, all.Bytes, all.Told = all.Calls+s.Calls, all.Bytes+s.Bytes, all.Told+s.Told
	}
	return all, nil
}

func (f *fleet) close() {
	for _, p := range f.processes {
		p.kill()
	}
}

// Models is what a process of models is asked, by net/rpc over its standard input and output.
type Models struct{ all *agents }

// NewModel is a model to be started: the Index-th of a Kind.
type NewModel struct {
	Kind  string
	Index int
}

// Seen is what models have got.
type Seen struct {
	Calls, Bytes int64 // of Syncs that bring what has changed
	Told         int   // models that have got a Sync since they began
}

// Add starts a model and says where it serves.
func (m *Models) Add(n NewModel, addr *string) (err error) {
	*addr, err = m.all.add(n.Kind, n.Index)
	return err
}

// Kill ends the models that serve at addresses.
func (m *Models) Kill(addrs []string, _ *struct{}) error {
	for _, a := range addrs {
		m.all.at(a).kill()
	}
	return nil
}

// Revive starts them again.
func (m *Models) Revive(addrs []string, _ *struct{}) error {
	for _, a := range addrs {
		if err := m.all.revive(m.all.at(a)); err != nil {
			return err
		}
	}
	return nil
}

// Seen says what the models have got.
func (m *Models) Seen(_ struct{}, s *Seen) error {
	*s = Seen{Calls: m.all.traffic.calls.Load(), Bytes: m.all.traffic.bytes.Load(), Told: m.all.told()}
	return nil
}

// serveModels answers until the one that asks is gone.
func serveModels() error {
	a := newAgents()
	defer a.close()
	s := rpc.NewServer()
	if err := s.Register(&Models{a}); err != nil {
		return fmt.Errorf("models: %w", err)
	}
	s.ServeConn(pipe{os.Stdin, os.Stdout})
	return nil
}

// all are the models of both kinds.
func (c *cluster) all() []*model { return slices.Concat(c.dns, c.cns) }
