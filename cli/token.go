package cli

import (
	"fmt"
	"os"

	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/pki"
)

// secure has a client speak TLS and show the user's token, when there is one.
func (s *session) secure(cfg *client.Config) error {
	if s.token == "" {
		return nil
	}
	fi, err := os.Stat(s.token)
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	if mode := fi.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return fmt.Errorf("--token-file %s: others may open it (mode %04o); make it 0600 (chmod 0600 %s)", s.token, mode.Perm(), s.token)
	}
	text, err := os.ReadFile(s.token)
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	t, err := pki.ParseUserToken(string(text))
	if err != nil {
		return fmt.Errorf("--token-file %s: %w", s.token, err)
	}
	cfg.Secure(t)
	return nil
}
