package store

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var migrationName = regexp.MustCompile(`^(\d{5})_[a-z0-9_]+\.sql$`)

// migrationFaults says what is wrong with the migrations of dialects: a name without
// a number, a number that two files of a dialect have, and files that one dialect has
// and another does not.
func migrationFaults(files fs.FS) (faults []string) {
	everywhere := map[string]int{}
	dialects, err := fs.ReadDir(files, "migrations")
	if err != nil {
		return []string{err.Error()}
	}
	for _, d := range dialects {
		of := map[string]string{}
		entries, err := fs.ReadDir(files, "migrations/"+d.Name())
		if err != nil {
			return []string{err.Error()}
		}
		for _, e := range entries {
			m := migrationName.FindStringSubmatch(e.Name())
			if m == nil {
				faults = append(faults, d.Name()+"/"+e.Name()+" is not named NNNNN_what.sql")
				continue
			}
			if other, twice := of[m[1]]; twice {
				faults = append(faults, d.Name()+" has "+other+" and "+e.Name())
			}
			of[m[1]] = e.Name()
			everywhere[e.Name()]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(everywhere)) {
		if everywhere[name] != len(dialects) {
			faults = append(faults, "some dialects have no "+name)
		}
	}
	return faults
}

// neverUsed are the numbers below the last migration that no migration has. None may
// get one: a database that was migrated past it refuses what comes later with a lower
// number, and says that it is up to date.
var neverUsed = []string{"00009", "00010", "00013", "00017", "00019"}

// TestMigrationNumbersGrow: a new migration has a number above all others, the next.
func TestMigrationNumbersGrow(t *testing.T) {
	entries, err := fs.ReadDir(migrations, "migrations/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	for i, n := 0, 1; i < len(entries); n++ {
		number := fmt.Sprintf("%05d", n)
		switch found := strings.HasPrefix(entries[i].Name(), number+"_"); {
		case slices.Contains(neverUsed, number) && found:
			t.Errorf("%s has a number that databases are past already: give it the next after the last", entries[i].Name())
			i++
		case slices.Contains(neverUsed, number):
		case found:
			i++
		default:
			t.Fatalf("there is no migration %s before %s", number, entries[i].Name())
		}
	}
}

// TestMigrationNumbers: each migration has a number of its own, and stands under the
// same name in every dialect. Of two with one number a database that is migrated would
// miss one for ever.
func TestMigrationNumbers(t *testing.T) {
	if faults := migrationFaults(migrations); len(faults) > 0 {
		t.Errorf("migrations: %q", faults)
	}
	var none fstest.MapFile
	broken := fstest.MapFS{"migrations/a/00001_init.sql": &none, "migrations/b/00001_init.sql": &none,
		"migrations/a/00002_x.sql": &none, "migrations/a/00002_y.sql": &none, "migrations/b/00002_x.sql": &none,
		"migrations/b/3_z.sql": &none}
	want := []string{"a has 00002_x.sql and 00002_y.sql", "b/3_z.sql is not named NNNNN_what.sql", "some dialects have no 00002_y.sql"}
	if got := migrationFaults(broken); !slices.Equal(got, want) {
		t.Errorf("faults of broken migrations: %q, want %q", got, want)
	}
}
