// Package child starts processes that end with this one, however it ends: tests and the
// sandbox start data planes, databases and emulated machines, which nobody else would end.
package child

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// starter starts all children of this process. The kernel sends a death signal when the
// thread ends that has started the child (prctl(2), PR_SET_PDEATHSIG), and Go ends the thread of a
// goroutine that returns while it is locked to it; so one thread that lasts as long as
// the process starts them all.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Start is cmd.Start of a process that is killed when this one ends. What else
// cmd.SysProcAttr says holds. Safe for concurrent use.
func Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

// Run is cmd.Run, likewise.
func Run(cmd *exec.Cmd) error {
	if err := Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}
