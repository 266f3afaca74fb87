package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// startSecured makes a CA, starts the portal that has it, secures the cluster before it has
// any node, and makes an admin.
func (c *Cluster) startSecured(ctx context.Context, port int) error {
	ca := filepath.Join(c.cfg.Dir, "ca")
	if err := c.command(ctx, "vda_db", "--action", "make-ca", "--ca-dir", ca, "--db-uri", c.db); err != nil {
		return err
	}
	if err := c.daemon(ctx, "portal", port, nil, "vda_portal", "--db-uri", c.db, "--ca-dir", ca,
		"--tls-dir", filepath.Join(c.cfg.Dir, "portal-tls")); err != nil {
		return err
	}
	if err := c.command(ctx, "vda_db", "--action", "secure", "--db-uri", c.db); err != nil {
		return err
	}
	token, err := c.output(ctx, "vda_db", "--action", "user", "--for", "user/sandbox", "--role", "admin", "--db-uri", c.db)
	if err != nil {
		return err
	}
	c.tokenFile = filepath.Join(c.cfg.Dir, "user-token")
	return os.WriteFile(c.tokenFile, token, 0o600)
}

// enrolment is the environment in which a member gets its certificate: with a one-time
// token for that name.
func (c *Cluster) enrolment(ctx context.Context, whom string) ([]string, error) {
	if c.cfg.Plain {
		return nil, nil
	}
	token, err := c.output(ctx, "vda_db", "--action", "token", "--for", whom, "--portal", c.portal, "--db-uri", c.db)
	return []string{"VDA_ENROL=" + string(bytes.TrimSpace(token))}, err
}

// Strangers tries what those try who have no token and no key. Of a plain cluster there is
// nothing to try.
func (c *Cluster) Strangers(ctx context.Context) error {
	if c.cfg.Plain {
		return nil
	}
	c.say("\nTrying to get in as a stranger")
	begin := time.Now()
	args := []string{"--addr-port", c.portal, "--timeout", "10s", "dn", "list"}
	c.say("  $ %s", shellLine("vda_cli", args))
	for { // the portal looks for the cluster's state every few seconds
		limit, cancel := context.WithTimeout(ctx, 30*time.Second)
		out, err := c.quiet(limit, "vda_cli", args...)
		cancel()
		if err != nil {
			break
		}
		if time.Since(begin) > 30*time.Second {
			return fmt.Errorf("the portal answers a call in the clear and without a token: %s", out)
		}
		time.Sleep(time.Second)
	}
	c.say("  the portal refuses a call in the clear and without a token")
	tried := 0
	for _, n := range c.nodes {
		doors, err := c.doors(ctx, n)
		if err != nil {
			return err
		}
		for _, d := range doors {
			attempt, cancel := context.WithTimeout(ctx, 20*time.Second)
			ctrl, err := host.Connect(attempt, host.Config{Traddr: "127.0.0.1", Trsvcid: fmt.Sprint(n.port), SubNQN: d.sub, HostNQN: d.host})
			cancel()
			if err == nil {
				ctrl.Close()
				return fmt.Errorf("%s: who calls himself %s gets at %s without a key", n.name, d.host, d.sub)
			}
			if !strings.Contains(err.Error(), "authentication") {
				return fmt.Errorf("%s: as %s at %s: %w", n.name, d.host, d.sub, err)
			}
			tried++
		}
	}
	if tried == 0 {
		return errors.New("no node demands a key of another")
	}
	c.say("  nodes refuse who has another node's name and no key, at each of %d connections", tried)
	return nil
}

// door is a subsystem and a node that is let in to it.
type door struct{ sub, host string }

// doors are those of a node to which other nodes connect.
func (c *Cluster) doors(ctx context.Context, n *node) (doors []door, err error) {
	out, err := c.quiet(ctx, "vda_rpc", "-s", n.socket, "nvmf_get_subsystems")
	if err != nil {
		return nil, err
	}
	var subs []struct {
		NQN   string
		Hosts []struct{ NQN string }
	}
	if err := json.Unmarshal(out, &subs); err != nil {
		return nil, fmt.Errorf("vda_rpc nvmf_get_subsystems printed no JSON: %w\n%s", err, out)
	}
	for _, sub := range subs {
		for _, h := range sub.Hosts {
			_, _, primary := vda.ParsePrimaryHost(h.NQN)
			if primary || strings.HasPrefix(h.NQN, vda.NQNPrefix+vda.ProxyPrefix) {
				doors = append(doors, door{sub.NQN, h.NQN})
			}
		}
	}
	return doors, nil
}

// howToReach says how a cluster that stays up is reached.
func (c *Cluster) howToReach() string {
	if c.cfg.Plain {
		url, token := c.WebPage()
		return fmt.Sprintf("  export VDA_PORTAL=%s\n  %s/vda_cli da list\n\nor in a browser: %s with the token %s", c.portal, c.cfg.BinDir, url,
			token)
	}
	return fmt.Sprintf("  export VDA_PORTAL=%s VDA_TOKEN_FILE=%s\n  %s/vda_cli da list\n\nor in a browser: https://%s/ with the token in "+
		"that file (the browser\nwarns of the portal's certificate, whose CA is the cluster's own)",
		c.portal, c.tokenFile, c.cfg.BinDir, c.portal)
}
