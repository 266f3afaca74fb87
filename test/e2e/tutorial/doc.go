// Package tutorial reads the multi-server tutorial as a script: which command
// is typed on which host, and what the document says it prints.
package tutorial
