// Package dbcli is the program vda_db: it creates, migrates, checks, backs up, restores
// and drops the schema in the cluster's database.
package dbcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbflag"
)

// Main is one action on a cluster's database.
type Main struct {
	Action      string // a key of actions
	DatabaseURI string
	File        string        // of a backup
	Timeout     time.Duration // for all of it

	// For the actions about security.
	CADir  string        // folder of the CA
	For    string        // whom it is about: "dn/192.168.0.14:9720", "user/ann"
	Portal string        // where a token's holder gets its certificate, "host:port"
	Role   string        // of a user
	Life   time.Duration // of a token; 0: an hour for an enrolment, 90 days for a user
	Out    io.Writer     // gets the result, one line
}

// names are the actions in the order of the help.
const names = "create, migrate, status, backup, restore, restored, drop, make-ca, token, user, revoke, secure or members"

// Program is vda_db.
func Program() program.Program { return build(program.TypedByHand) }

// build is Program; typed says that somebody types the command.
func build(typed func() bool) program.Program {
	m, yes := Main{}, false
	c := &cobra.Command{
		Use:   "vda_db ACTION --db-uri URI [flags]",
		Short: "Create, migrate, check, back up, restore or drop the schema in the cluster's database",
		Long: `vda_db acts on the schema in the cluster's database:

  create    make the schema and a new cluster id; an existing schema stays as it is
  migrate   bring the schema of an older version to this program's; data stay
  status    tell which schema the database holds; exit 1 unless it is up to date
  backup    write all of it to a new file, while the cluster works, and verify that
  restore   fill a database without a schema with a backup, and verify that
  restored  say that the database was restored from a backup: nodes, which refuse
            what is older than they know, take it as the truth again
  drop      remove the schema and all it says about the cluster; somebody at a terminal
            is asked first, a script never

It also says who belongs to a cluster that is to be secured; see docs/security.md:

  make-ca   make the cluster's CA in --ca-dir, or take the one that is there
  token     print a one-time token with which the daemon --for gets its certificate from --portal
  user      print a token for the user --for, with --role
  revoke    have the certificates, or the tokens, of --for refused that were given out so far
  secure    have all daemons refuse calls in the clear, for good; each needs its certificate before
  members   list who has a certificate or a token

Disks and nodes keep what they have whatever is done here. The action may also be
given as --action ACTION.`,
		Example: `  vda_db create --db-uri sqlite:////var/lib/vda/vda.db
  vda_db status --db-uri-file /etc/vda/db-uri
  vda_db backup --db-uri-file /etc/vda/db-uri --file /var/backups/vda-monday
  vda_db user --db-uri-file /etc/vda/db-uri --for user/ann --role operator`,
		ValidArgs: slices.Sorted(maps.Keys(actions)),
		Args:      m.verb,
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&m.Action, "action", "", "`ACTION` to carry out: "+names+"; it may stand alone instead")
	program.Typed(fs, "action")
	program.Choices(c, "action", slices.Sorted(maps.Keys(actions))...)
	db := dbflag.Add(fs)
	fs.StringVar(&m.File, "file", "", "`FILE` of the backup: a new one for backup, which overwrites none (required by backup and restore)")
	fs.StringVar(&m.CADir, "ca-dir", "", "`DIR` of the CA: tls.crt and tls.key")
	fs.StringVar(&m.For, "for", "", "`KIND/NAME` of a member, portal, monitor, dn or cn, such as dn/192.168.0.14:9720, by the name that "+
		"the cluster knows; or user/NAME")
	fs.StringVar(&m.Portal, "portal", "", "`HOST:PORT` of the portal with the CA, to get a certificate from")
	fs.StringVar(&m.Role, "role", "", "`ROLE` of a user: admin, operator, viewer or csi")
	program.Choices(c, "role", roles...)
	fs.DurationVar(&m.Life, "life", 0, "how long a token is good (default 1h for token, 2160h for user)")
	fs.DurationVar(&m.Timeout, "timeout", time.Minute, "give up after so long")
	fs.BoolVar(&yes, "yes", false, "drop without asking")
	program.Typed(fs, "yes")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if err := m.validate(); err != nil {
			return err
		}
		if m.DatabaseURI, err = db.Get(); err != nil {
			return err
		}
		m.Out = c.OutOrStdout()
		if m.Action == "drop" && !yes && !program.Confirm(c, "Drop all that the database says about the cluster", typed) {
			return errors.New("nothing was dropped: the answer was not yes; --yes drops without asking")
		}
		return m.Run(c.Context())
	}
	return program.Program{Root: c}
}

// verb takes the action from the command line's first word.
func (m *Main) verb(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case len(args) > 1:
		return fmt.Errorf("unexpected argument %q: vda_db takes one action, and every other value belongs to a flag", args[1])
	case actions[args[0]] == nil:
		return fmt.Errorf("there is no action %q; it must be %s", args[0], names)
	case c.Flags().Changed("action"):
		return fmt.Errorf("%q and --action %q: give the action once", args[0], m.Action)
	}
	m.Action = args[0]
	return nil
}

func (m Main) validate() error {
	switch {
	case m.Action == "":
		return errors.New("the action is missing; it must be " + names)
	case actions[m.Action] == nil:
		return fmt.Errorf("--action %q must be %s", m.Action, names)
	case m.File == "" && (m.Action == "backup" || m.Action == "restore"):
		return fmt.Errorf("--file is missing; --action %s needs it", m.Action)
	case m.File != "" && m.Action != "backup" && m.Action != "restore":
		return fmt.Errorf("--file is for backup and restore; --action %s takes none", m.Action)
	case m.Timeout <= 0:
		return fmt.Errorf("--timeout %v must be above 0", m.Timeout)
	}
	return nil
}

// Run carries the action out.
func (m Main) Run(ctx context.Context) error {
	if err := m.validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	msg, err := actions[m.Action](ctx, m)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the database did not answer within %v", m.Timeout)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(m.Out, msg)
	return err
}

var actions = map[string]func(context.Context, Main) (string, error){
	"create": func(ctx context.Context, m Main) (string, error) {
		st, made, err := store.Create(ctx, m.DatabaseURI)
		if err != nil || made {
			return "created; " + st.String(), err
		}
		return "already there, nothing changed; " + st.String(), nil
	},
	"migrate": func(ctx context.Context, m Main) (string, error) {
		before, after, err := store.Migrate(ctx, m.DatabaseURI)
		if err != nil {
			return "", err
		}
		if before.Version == after.Version {
			return "nothing to migrate; " + after.String(), nil
		}
		return fmt.Sprintf("migrated from version %d; %s", before.Version, after), nil
	},
	"status": func(ctx context.Context, m Main) (string, error) {
		st, err := store.Status(ctx, m.DatabaseURI)
		if err != nil {
			return "", err
		}
		if st.Version != st.Target || st.ClusterID == "" {
			return "", errors.New(st.String())
		}
		return st.String(), nil
	},
	"backup": func(ctx context.Context, m Main) (string, error) {
		b, err := store.Backup(ctx, m.DatabaseURI, m.File)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("backed up to %s and verified: cluster %s, schema version %d, %d rows", m.File, b.ClusterID, b.Schema, b.Rows), nil
	},
	"restore": func(ctx context.Context, m Main) (string, error) {
		b, st, err := store.Restore(ctx, m.DatabaseURI, m.File)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("restored %d rows of %s and verified; %s; run vda_db --action restored before portals and monitors start, so that "+
			"nodes take it as the truth", b.Rows, b.Made.Format(time.RFC3339), st), nil
	},
	"restored": func(ctx context.Context, m Main) (string, error) {
		st, err := store.Supersede(ctx, m.DatabaseURI)
		if err != nil {
			return "", err
		}
		return "nodes will take this database as the truth from now on; " + st.String(), nil
	},
	"drop": func(ctx context.Context, m Main) (string, error) {
		st, err := store.Drop(ctx, m.DatabaseURI)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("dropped the schema of cluster %s; %s", st.ClusterID, store.SchemaStatus{Database: st.Database}), nil
	},
	"make-ca": secured(makeCA),
	"token":   secured(enrolToken),
	"user":    secured(userToken),
	"revoke":  secured(revoke),
	"secure":  secure,
	"members": secured(members),
}
