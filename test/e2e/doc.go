// Package e2e runs VDA as its users do: ten hosts on a LAN of their own, a
// real PostgreSQL, and real Linux NVMe/TCP hosts in emulated machines. The
// tests need root and Debian and are built with the tag e2e; make tutorial
// runs them.
package e2e
