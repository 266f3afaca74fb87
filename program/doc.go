// Package program is how every program of VDA is built: cmd/* hand a Program to
// Main, tests hand one to Run with a Process of their own.
//
// A Program is a cobra command. This package gives each of them the same
//
//   - help: what it does, how it is called, each flag with its unit and default
//   - completion bash|zsh|fish, and --version
//   - sources of flags: the command line, then the environment, then the file
//     that --config names, then the default
//   - errors: one line on standard error that names the flag, the value, what
//     would be right and, unless it is the command line, where the value came
//     from; the nearest name that there is for one that there is not
//   - signals: the context of a command ends with SIGTERM and SIGINT
//
// # Environment and file
//
// The environment variable of --db-uri is VDA_DB_URI. A file is YAML: one
// mapping from names of flags to values. A flag that may be given several times
// takes a list in the file and commas in the environment; one whose value is
// JSON also takes a mapping in the file.
//
// Some flags give an order rather than a setting, such as --force: they count
// on the command line alone (Typed). Of flags that exclude each other the one
// from the stronger source counts (OneOf).
//
// A package that is a program has a Program function, which defines the flags,
// and a Main struct with a Run method, which starts what they describe: a caller
// that has the values, such as a test, needs no command line.
package program
