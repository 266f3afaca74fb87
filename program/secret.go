package program

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// maxSecret bounds the line that a secret is in, bytes.
const maxSecret = 4096

// Secret reads a secret that a flag names: the first line of a file, which others must not be
// able to read, or with "-" of standard input, where a terminal is asked and does not show
// what is typed.
func Secret(cmd *cobra.Command, path, question string) (string, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		return secretFile(path, 0o077)
	}
	if Terminal(in) {
		fmt.Fprint(cmd.ErrOrStderr(), question)
		defer fmt.Fprintln(cmd.ErrOrStderr())
		show, err := hide(int(in.(*os.File).Fd()))
		if err != nil {
			return "", fmt.Errorf("the terminal cannot be kept from showing it: %w", err)
		}
		defer show()
	}
	return secretLine(in)
}

// SecretFile reads a secret of a program that serves: the first line of a file, which others must
// not be able to read. Its group may, as with a secret of Kubernetes.
func SecretFile(path string) (string, error) { return secretFile(path, 0o037) }

func secretFile(path string, closed os.FileMode) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", cause(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", cause(err)
	}
	if mode := fi.Mode(); mode.IsRegular() && mode.Perm()&closed != 0 {
		return "", fmt.Errorf("others may open it (mode %04o); make it 0600 (chmod 0600 %s)", mode.Perm(), path)
	}
	return secretLine(f)
}

func secretLine(in io.Reader) (string, error) {
	line, err := bufio.NewReaderSize(io.LimitReader(in, maxSecret), maxSecret).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", cause(err)
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case line == "":
		return "", errors.New("its first line is empty")
	case len(line) >= maxSecret-1:
		return "", fmt.Errorf("its first line is longer than %d bytes", maxSecret-2)
	}
	return line, nil
}

// Asks reports that a secret of the path "-" is asked for at a terminal.
func Asks(cmd *cobra.Command) bool { return Terminal(cmd.InOrStdin()) }

// cause is what is the matter with a file, without the call that found it out.
func cause(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// hide has a terminal show nothing of what is typed, until show is called.
func hide(fd int) (show func(), err error) {
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	now := *was
	now.Lflag = now.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &now); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) }, nil
}
