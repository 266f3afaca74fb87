// Package dbtest gives tests a database of their own: a SQLite file, a
// private PostgreSQL or a private MariaDB server that ends with the test.
//
// The servers are Debian's binaries with a new data directory, a free port on
// 127.0.0.1 and durability off. As they do not run as root, a root test hands
// them to nobody. Where the binaries are missing a test is skipped with the
// reason, except under CI=true, where that is a failure. VDA_TEST_POSTGRES
// and VDA_TEST_MYSQL may name the URI of a server's database instead.
package dbtest
