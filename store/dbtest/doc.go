// Package dbtest gives tests a database of their own: a SQLite file, a
// private PostgreSQL or a private MariaDB server that ends with the test.
package dbtest
