package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/pki"
)

// secure has a client speak TLS and show the user's token, when there is one.
func (s *session) secure(cfg *client.Config) error {
	switch {
	case s.token == "" && s.ca == "":
		return nil
	case s.token == "":
		return fmt.Errorf("--ca-file %s: the portals of a secured cluster want a token too: see --token-file", s.ca)
	}
	fi, err := os.Stat(s.token)
	if err != nil {
		return fmt.Errorf("--token-file %s: %w", s.token, cause(err))
	}
	if mode := fi.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return fmt.Errorf("--token-file %s: others may open it (mode %04o); make it 0600 (chmod 0600 %s)", s.token, mode.Perm(), s.token)
	}
	text, err := os.ReadFile(s.token)
	if err != nil {
		return fmt.Errorf("--token-file %s: %w", s.token, cause(err))
	}
	t, err := pki.ParseUserToken(string(text))
	if err != nil {
		return fmt.Errorf("--token-file %s: %w", s.token, err)
	}
	if err := s.ofCA(t); err != nil {
		return err
	}
	cfg.Secure(t)
	return nil
}

// ofCA is the error of a token that is for another CA than the user's file has.
func (s *session) ofCA(t pki.UserToken) error {
	if s.ca == "" {
		return nil
	}
	text, err := os.ReadFile(s.ca)
	if err != nil {
		return fmt.Errorf("--ca-file %s: %w", s.ca, cause(err))
	}
	print, err := pki.Fingerprint(text)
	if err != nil {
		return fmt.Errorf("--ca-file %s: %w", s.ca, err)
	}
	if print != t.CA {
		return fmt.Errorf("--token-file %s: the token is for another CA than that of --ca-file %s; nothing was sent", s.token, s.ca)
	}
	return nil
}

// cause is what is the matter with a file, without the call that found it out.
func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
