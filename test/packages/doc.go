// Package packages looks at the deb and rpm packages as an administrator who
// installs them does: what is in them, who owns it, and whether the units run.
package packages
