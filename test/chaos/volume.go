//go:build e2e

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Beside the faults a user takes snapshots of the array, reads and clones them, rolls the
// array back, and lets it grow, while it serves. All that he asks for is in rows, so
// whatever dies in the middle he gets it, or is told that he does not. The host says what
// each snapshot may hold.

// What arrays get in bytes when volumes are used.
const (
	volumePD    = 768 << 20 // instead of pdBytes
	volumeSpare = 64 << 20  // beyond the size, for a snapshot
	volumeStep  = 8 << 20   // by which the array grows
	volumeGrows = 3         // times
	// askTime is how long a user tries to have something, beside faults.
	askTime = 3 * time.Minute
)

// withVolumes has faults come with something that a user does with the array under way.
func (f *chooser) withVolumes(seed uint64) { f.volumes = rand.New(rand.NewPCG(seed, 5)) }

// use begins something that a user does, with the fault in the middle of it.
func (f *chooser) use(x *fault) *fault {
	v := f.volume()
	both := both(v, x, between(f.volumes, 0, 700*time.Millisecond))
	both.kind = v.kind + ", and a fault"
	return both
}

// volume is the next of what a user does: all kinds in an order that is drawn, and again.
func (f *chooser) volume() *fault {
	if len(f.deck) == 0 {
		f.deck = []string{"snapshot", "snapshot", "clone", "part of a clone", "rollback", "rollback", "growth"}
		f.volumes.Shuffle(len(f.deck), func(i, j int) { f.deck[i], f.deck[j] = f.deck[j], f.deck[i] })
	}
	kind := f.deck[0]
	f.deck = f.deck[1:]
	if kind == "growth" && f.c.grows < volumeGrows {
		f.c.grows++
		return background("growth", fmt.Sprintf("da modify by %d bytes", volumeStep), f.c.grow)
	}
	f.snaps++
	s := &snapshot{c: f.c, name: fmt.Sprint("s", f.snaps)}
	switch kind {
	case "clone", "part of a clone":
		return background("a clone", "da create --from-snap da0/"+s.name+", "+kind, func() error {
			return s.use(s.read, func() error { return s.clone(kind == "clone") })
		})
	case "rollback":
		pause := between(f.volumes, 0, time.Second)
		return background("a rollback", "snap rollback "+s.name, func() error {
			return s.use(s.read, func() error {
				time.Sleep(pause) // something is written
				return s.rollBack()
			})
		})
	}
	return background("a snapshot", "snap create "+s.name+", read, snap delete", func() error { return s.use(s.read) })
}

// background is something that goes on beside a fault, and whose end its heal waits for.
func background(kind, what string, do func() error) *fault {
	done := make(chan error, 1)
	return &fault{kind: kind, what: what, hold: 100 * time.Millisecond,
		inject: func() error {
			go func() { done <- do() }()
			return nil
		},
		heal: func() error { return <-done }}
}

var replyCode = regexp.MustCompile(`"reply_code": (\d+)`)

// codeOf is the reply code with which vda_cli ended; 0 for none.
func codeOf(err error) apiv1.ReplyCode {
	if err == nil {
		return 0
	}
	m := replyCode.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return apiv1.ReplyCode(n)
}

// ask runs vda_cli until it succeeds or says one of the codes that mean that it is so
// already.
func (c *cluster) ask(args string, already ...apiv1.ReplyCode) error {
	for end := time.Now().Add(askTime); ; time.Sleep(300 * time.Millisecond) {
		err := c.once(args)
		if err == nil {
			return nil
		}
		for _, code := range already {
			if codeOf(err) == code {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %w", askTime, err)
		}
	}
}

// awaitReply runs vda_cli until what it prints is as wanted.
func (c *cluster) awaitReply(args string, done func(out []byte) bool) error {
	var out []byte
	var err error
	for end := time.Now().Add(askTime); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
		out, err = c.cli(ctx, args)
		cancel()
		if err == nil && done(out) {
			return nil
		}
	}
	return fmt.Errorf("%v after it was asked for, %s: %s %w", askTime, args, out, err)
}

// daNow is what da get shows of an array.
type daNow struct {
	DaMsg struct {
		Error    bool   `json:"error"`
		Size     uint64 `json:"da_size"`
		Physical uint64 `json:"physical_size"`
		CloneOf  string `json:"clone_of"`
		Grps     []struct {
			Joining bool `json:"joining"`
		} `json:"grp_msg_list"`
	} `json:"da_msg"`
}

// snapshot is one of the array's.
type snapshot struct {
	c    *cluster
	name string
}

// use takes a snapshot, does things with it and deletes it. One that could not be had is
// not there, and that is well.
func (s *snapshot) use(do ...func() error) error {
	taken, err := s.take()
	if err != nil || !taken {
		return err
	}
	for _, fn := range do {
		if err := fn(); err != nil {
			return err
		}
	}
	return s.c.ask("snap delete --da-name da0 --snap-name "+s.name, apiv1.CodeNotFound)
}

// take reports whether there is one now.
func (s *snapshot) take() (bool, error) {
	host := s.c.host
	if err := host.order(wish{Do: doOpen, Name: s.name}); err != nil {
		return false, err
	}
	err := s.c.once("snap create --da-name da0 --snap-name " + s.name)
	if err == nil {
		return true, host.order(wish{Do: doSeal})
	}
	var reply struct {
		SnapMsg struct {
			State string `json:"state"`
		} `json:"snap_msg"`
	}
	for end := time.Now().Add(askTime); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
		out, err := s.c.cli(ctx, "snap get --da-name da0 --snap-name "+s.name)
		cancel()
		switch {
		case codeOf(err) == apiv1.CodeNotFound:
			return false, host.order(wish{Do: doAbandon})
		case err != nil || json.Unmarshal(out, &reply) != nil:
		case reply.SnapMsg.State == "taken":
			return true, host.order(wish{Do: doSeal})
		}
	}
	return false, fmt.Errorf("%v after snap create of %s had said %q snap get says %q: neither is it there nor is it not", askTime, s.name,
		err, reply.SnapMsg.State)
}

// look has the host read what an exporter shows, which has to be the snapshot.
func (s *snapshot) look(da, exp, what string) error {
	if err := s.c.ask(fmt.Sprintf("exp create --da-name %s --exp-name %s --initiator-nqn %s %s", da, exp, hostNQN, what),
		apiv1.CodeIdentical); err != nil {
		return err
	}
	var reply struct {
		ExpMsg struct {
			Nqn  string `json:"exp_nqn"`
			List []struct {
				CnName string `json:"cn_name"`
			} `json:"es_msg_list"`
		} `json:"exp_msg"`
	}
	if err := s.c.awaitReply("exp get --da-name "+da+" --exp-name "+exp, func(out []byte) bool {
		return json.Unmarshal(out, &reply) == nil && len(reply.ExpMsg.List) > 0
	}); err != nil {
		return err
	}
	o := wish{Do: doLook, Name: s.name, NQN: reply.ExpMsg.Nqn}
	for _, e := range reply.ExpMsg.List {
		addr, _, _ := strings.Cut(e.CnName, ":")
		o.Addrs = append(o.Addrs, addr)
	}
	return errors.Join(s.c.host.order(o), s.c.ask(fmt.Sprintf("exp delete --da-name %s --exp-name %s", da, exp), apiv1.CodeNotFound))
}

func (s *snapshot) read() error { return s.look("da0", "look", "--snap-name "+s.name) }

// clone makes an array of it, which is the same from the first moment, and still when it
// has all data; else it goes before that.
func (s *snapshot) clone(whole bool) error {
	if err := s.c.ask("da create --da-name clone --cntlr-cnt 2 --from-snap da0/"+s.name+" --redundancy "+s.c.cfg.Redundancy.String(),
		apiv1.CodeIdentical); err != nil {
		return err
	}
	if err := s.look("clone", "look", ""); err != nil {
		return err
	}
	if whole {
		if err := s.c.awaitReply("da get --da-name clone", func(out []byte) bool {
			var da daNow
			return json.Unmarshal(out, &da) == nil && da.DaMsg.CloneOf == "" && !da.DaMsg.Error
		}); err != nil {
			return err
		}
		if err := s.look("clone", "whole", ""); err != nil {
			return err
		}
	}
	return s.c.ask("da delete --da-name clone", apiv1.CodeNotFound)
}

// rollBack makes the array what the snapshot shows. The host lets go of it for that, and
// finds it there afterwards.
func (s *snapshot) rollBack() error {
	host := s.c.host
	if err := host.order(wish{Do: doStop}); err != nil {
		return err
	}
	for i := range s.c.cfg.Exps {
		if err := s.c.ask(fmt.Sprintf("exp delete --da-name da0 --exp-name exp%d", i), apiv1.CodeNotFound); err != nil {
			return err
		}
	}
	if err := s.c.ask("snap rollback --da-name da0 --snap-name " + s.name); err != nil {
		return err
	}
	if err := s.c.awaitReply("snap get --da-name da0 --snap-name "+s.name, func(out []byte) bool {
		return strings.Contains(string(out), `"rollback": ""`)
	}); err != nil {
		return err
	}
	for i := range s.c.cfg.Exps {
		args := fmt.Sprintf("exp create --da-name da0 --exp-name exp%d --initiator-nqn %s", i, hostNQN)
		if err := s.c.ask(args, apiv1.CodeIdentical); err != nil {
			return err
		}
	}
	return host.order(wish{Do: doRewound, Name: s.name})
}

// grow gives the array more physical size, and as much more size as leaves room for a
// snapshot. The host finds what is new to be zeros, and uses it.
func (c *cluster) grow() error {
	size := uint64(c.blocks*blockSize + volumeStep)
	physical := 2*size + volumeSpare - daBytes
	for _, args := range []string{fmt.Sprint("--physical-size ", physical), fmt.Sprint("--da-size ", size)} {
		// What is asked for again is refused, or taken back, when it is under way.
		if err := c.awaitReply("da get --da-name da0", func(out []byte) bool {
			var da daNow
			if json.Unmarshal(out, &da) != nil {
				return false
			}
			for _, g := range da.DaMsg.Grps {
				if g.Joining {
					return false
				}
			}
			if strings.HasPrefix(args, "--physical") && da.DaMsg.Physical == physical || da.DaMsg.Size == size {
				return true
			}
			_ = c.once("da modify --da-name da0 " + args)
			return false
		}); err != nil {
			return err
		}
	}
	if err := c.host.order(wish{Do: doGrown, Blocks: int(size / blockSize)}); err != nil {
		return err
	}
	c.blocks = int(size / blockSize)
	return nil
}
