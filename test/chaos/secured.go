//go:build e2e

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	vda "github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// userToken is where the user's token is on the portal's machine.
const userToken = "/root/user-token"

// startPortal starts the portal. A secured cluster gets its CA and an admin, and takes
// no call in the clear before it has a node.
func (c *cluster) startPortal(ctx context.Context, m *machine) error {
	args := []string{"/root/vda_portal", "--listener", m.addr, "--db-uri", dbURI}
	if !c.cfg.Secured {
		m.daemon = supervise(c.cfg.Dir, m.name, m.h, "", args...)
		return nil
	}
	if _, err := c.output(ctx, m, "/root/vda_db --action make-ca --ca-dir /root/ca --db-uri "+dbURI); err != nil {
		return err
	}
	m.daemon = supervise(c.cfg.Dir, m.name, m.h, "", append(args, "--ca-dir", "/root/ca", "--tls-dir", "/root/tls")...)
	// It is refused until the portal has its certificate.
	if err := c.until(ctx, m, "/root/vda_db --action secure --db-uri "+dbURI, 30*time.Second); err != nil {
		return err
	}
	_, err := c.output(ctx, m, "umask 077; /root/vda_db --action user --for user/chaos --role admin --db-uri "+dbURI+" > "+userToken)
	return err
}

// enrolment is what stands before a member's command, with a one-time token, and tls
// behind it; nothing in a plain cluster.
func (c *cluster) enrolment(ctx context.Context, whom string, tls ...string) (before, after []string, err error) {
	if !c.cfg.Secured {
		return nil, nil, nil
	}
	token, err := c.output(ctx, c.machines["portal"], "/root/vda_db --action token --for "+whom+" --portal "+portalURL+" --db-uri "+dbURI)
	return []string{"env", "VDA_ENROL=" + strings.TrimSpace(string(token))}, tls, err
}

// asUser stands before a script for the portal's machine, whose vda_cli has a token then.
func (c *cluster) asUser() string {
	if !c.cfg.Secured {
		return ""
	}
	return "export VDA_TOKEN_FILE=" + userToken + "; "
}

// checkKeys fails the test unless every connection between nodes of a secured cluster
// demands a key, of the present term, and the portal a token.
func (c *cluster) checkKeys(t *verdict.T) {
	t.Helper()
	if !c.cfg.Secured {
		return
	}
	stranger := "unset VDA_TOKEN_FILE; /root/vda_cli --addr-port " + portalURL + " dn list"
	if out, err := c.output(t.Context(), c.machines["portal"], stranger); err == nil {
		t.Errorf("the portal answers a call in the clear: %s", out)
	}
	terms, err := c.sql(t.Context(), "select term from vda.vda_da where name = 'da0'")
	if err != nil {
		t.Error(err)
	}
	term, doors := strings.TrimSpace(string(terms)), 0
	for _, m := range c.order {
		if m.kind != "dn" && m.kind != "cn" {
			continue
		}
		out, err := c.output(t.Context(), m, "/root/vda_rpc -s /tmp/sock nvmf_get_subsystems")
		var subs []struct {
			NQN   string
			Hosts []struct {
				NQN    string
				Dhchap string `json:"dhchap_key"`
			}
		}
		if err == nil {
			err = json.Unmarshal(out, &subs)
		}
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		for _, sub := range subs {
			for _, h := range sub.Hosts {
				of, _, primary := vda.ParsePrimaryHost(h.NQN)
				if !primary && !strings.HasPrefix(h.NQN, vda.NQNPrefix+vda.ProxyPrefix) {
					continue
				}
				doors++
				if h.Dhchap == "" {
					t.Errorf("%s lets %s in to %s without a key", m.name, h.NQN, sub.NQN)
				}
				if primary && fmt.Sprint(of) != term {
					t.Errorf("%s lets %s in to %s, and the term is %s", m.name, h.NQN, sub.NQN, term)
				}
			}
		}
	}
	t.Logf("%d connections between nodes demand keys, in term %s", doors, term)
	if doors == 0 {
		t.Error("no connection between nodes demands a key")
	}
}
