// Package dbcli is the program vda_db: it creates, migrates, checks and drops
// the schema in the cluster's database.
package dbcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbflag"
)

const usage = `usage: vda_db --action create|migrate|status|restored|drop --db-uri URI

  create    make the schema and a new cluster id; an existing schema stays as it is
  migrate   bring the schema of an older version to this program's; data stay
  status    tell which schema the database holds; exit 1 unless it is up to date
  restored  say that the database was restored from a backup: nodes, which refuse
            what is older than they know, take it as the truth again
  drop      remove the schema and all it says about the cluster, without asking

Disks and nodes keep what they have whatever is done here.

`

// Main runs vda_db with the arguments after the program's name and returns
// its exit code. Results go to out, errors in one line to errs.
func Main(ctx context.Context, args []string, out, errs io.Writer) int {
	msg, err := run(ctx, args, out)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(errs, "vda_db:", reason.Full(err))
		return 1
	}
	fmt.Fprintln(out, msg)
	return 0
}

func run(ctx context.Context, args []string, out io.Writer) (string, error) {
	fs := pflag.NewFlagSet("vda_db", pflag.ContinueOnError)
	fs.SetOutput(out)
	fs.SortFlags = false
	action := fs.String("action", "", "create, migrate, status, restored or drop (required)")
	db := dbflag.Add(fs)
	timeout := fs.Duration("timeout", time.Minute, "give up after so long")
	fs.Usage = func() { fmt.Fprint(out, usage, fs.FlagUsages()) }
	if err := fs.Parse(args); err != nil {
		return "", err
	}
	if fs.NArg() > 0 {
		return "", fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	do, known := actions[*action]
	switch {
	case *action == "":
		return "", errors.New("--action is missing; it must be create, migrate, status, restored or drop")
	case !known:
		return "", fmt.Errorf("--action %q must be create, migrate, status, restored or drop", *action)
	case *timeout <= 0:
		return "", fmt.Errorf("--timeout %v must be above 0", *timeout)
	}
	uri, err := db.Get()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	msg, err := do(ctx, uri)
	if errors.Is(err, context.DeadlineExceeded) {
		return "", fmt.Errorf("the database did not answer within %v", *timeout)
	}
	return msg, err
}

var actions = map[string]func(context.Context, string) (string, error){
	"create": func(ctx context.Context, uri string) (string, error) {
		st, made, err := store.Create(ctx, uri)
		if err != nil || made {
			return "created; " + st.String(), err
		}
		return "already there, nothing changed; " + st.String(), nil
	},
	"migrate": func(ctx context.Context, uri string) (string, error) {
		before, after, err := store.Migrate(ctx, uri)
		if err != nil {
			return "", err
		}
		if before.Version == after.Version {
			return "nothing to migrate; " + after.String(), nil
		}
		return fmt.Sprintf("migrated from version %d; %s", before.Version, after), nil
	},
	"status": func(ctx context.Context, uri string) (string, error) {
		st, err := store.Status(ctx, uri)
		if err != nil {
			return "", err
		}
		if st.Version != st.Target || st.ClusterID == "" {
			return "", errors.New(st.String())
		}
		return st.String(), nil
	},
	"restored": func(ctx context.Context, uri string) (string, error) {
		st, err := store.Supersede(ctx, uri)
		if err != nil {
			return "", err
		}
		return "nodes will take this database as the truth from now on; " + st.String(), nil
	},
	"drop": func(ctx context.Context, uri string) (string, error) {
		st, err := store.Drop(ctx, uri)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("dropped the schema of cluster %s; %s", st.ClusterID, store.SchemaStatus{Database: st.Database}), nil
	},
}
