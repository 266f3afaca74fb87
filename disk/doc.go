// Package disk decides from what a disk holds whether it may be formatted.
//
// # The rule
//
// A disk is formatted only when it is blank, or when the user has seen what is
// on it and says that it may go. Blank means that it reads as zeros wherever
// Look looks: at its first and last MiB, at [Samples] places spread evenly
// between them, and at each power of two from 1 MiB on, where partitions, copies
// of super blocks and second headers like to lie. A disk of 16 MiB or less is
// read as a whole. Of a file the places that hold data are read too, wherever
// they are (SEEK_DATA): all of the first 256 MiB of data, and the start and the
// end of each further extent.
//
// The signatures only give a name to what was found, for the message. Nothing
// is formatted because no signature fits.
//
// # What was shown
//
// Look notes where it met data and a hash of each such place ([Mark]). When a
// user lets a disk be wiped, each place that holds data then must hold what it
// held when it was shown; see [Content.Covered]. Places that have become zeros
// meanwhile do no harm: a wipe that was cut off goes on.
//
// # Stamp
//
// Our own disks carry an lvstore whose name is the stamp. Stamp reads it from
// the metadata, so that nothing has to load, and so write, the lvstore of
// another.
//
// Everything here reads by [Reader] and holds no state; functions may be called
// from anywhere. Package disk/local opens files and block devices for it.
package disk
