package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/sim/simnet"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbcli"
)

// The cluster is secured before it has an array: daemons enrol with tokens of vda_db and call each other by TLS, the
// administrator has a token, connections between nodes and those of hosts authenticate.

const portalAddress = portalMachine + ":9520"

func (s *sim) caDir() string { return filepath.Join(s.dir, "ca") }

// vdaDB runs vda_db on the machine of the database, and returns what it prints.
func (s *sim) vdaDB(m dbcli.Main) (string, error) {
	var out bytes.Buffer
	m.DatabaseURI, m.Timeout, m.Out = s.uri(), time.Minute, &out
	err := m.Run(context.Background())
	return strings.TrimSpace(out.String()), err
}

func (s *sim) uri() string { return "sqlite:///" + filepath.Join(s.dir, "vda.db") + "?synchronous=off" }

// issue gives a daemon a token to be started with.
func (s *sim) issue(d *daemon) error {
	if d.who == "" {
		return nil
	}
	token, err := s.vdaDB(dbcli.Main{Action: "token", For: d.who, Portal: portalAddress})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.token = token
	return err
}

// member says how a life of a daemon gets its certificate.
func (s *sim) member(d *daemon, p *simnet.Process) member.Flags {
	d.mu.Lock()
	defer d.mu.Unlock()
	return member.Flags{Dir: d.dir, Enrol: d.token, Connect: connect(p)}
}

// user is a client of a process with the token of a user of a role.
func (s *sim) user(p *simnet.Process, role string) (*client.Client, error) {
	text, err := s.vdaDB(dbcli.Main{Action: "user", For: "user/" + role, Role: role})
	if err != nil {
		return nil, err
	}
	token, err := pki.ParseUserToken(text)
	if err != nil {
		return nil, err
	}
	cfg := client.Config{Portals: []string{portalAddress}, Dial: s.dialing(p)}
	cfg.Dial.Ping, cfg.Dial.ConnectTimeout = -1, time.Second
	cfg.Secure(token)
	return client.New(cfg)
}

// secure has the cluster take no call in the clear any more, and returns when no daemon does, and monitors know that
// hosts can authenticate.
func (s *sim) secure(ctx context.Context) error {
	if _, err := s.admin.SecureCluster(ctx, &apiv1.SecureClusterRequest{}); err != nil {
		return fmt.Errorf("cluster secure: %w", err)
	}
	for {
		why, err := s.plain()
		if err != nil || why == "" {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.New(why)
		}
	}
}

// plain says what is not secured yet, "" when all is.
func (s *sim) plain() (why string, err error) {
	for _, d := range s.daemons {
		if d.dir == "" {
			continue
		}
		id, err := pki.Open(d.dir)
		if err != nil {
			return "", err
		}
		if !id.Secured() {
			return d.name + " takes calls in the clear", nil
		}
	}
	err = s.db.Store.View(context.Background(), func(tx store.Reader) error {
		cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
		for _, n := range cns {
			if !n.Auth {
				why = "no monitor says that hosts can authenticate at cn " + n.Name
			}
		}
		return err
	})
	return why, err
}

// stolen is the identity of a daemon, as one has it who has copied its folder.
func (s *sim) stolen(d *daemon) (*pki.Identity, error) {
	dir, err := os.MkdirTemp(s.dir, "stolen-"+d.name+"-")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"identity.pem", "security.json"} {
		b, err := os.ReadFile(filepath.Join(d.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	return pki.Open(dir)
}

// newKeys are a host's, and those of the controllers that it connects to.
func newKeys() [2]string {
	return [2]string{dhchap.NewSecret(dhchap.SHA256).Reveal(), dhchap.NewSecret(dhchap.SHA256).Reveal()}
}
