package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/program"
)

// loginCommands begin and end sessions of users who have a password.
var loginCommands = []local{
	{verb: "login", short: "Begin a session with a user's name and password, or at an issuer of OpenID Connect", run: login,
		long: "\nThe token of the session is kept beside the contexts, in a file that its owner alone can\nread, and the context uses it from " +
			"then on. A session lasts 12 hours; logout ends it\nsooner. --ca-file, or the context's CA, says which cluster's portals get " +
			"the password.\nWithout a context, one of the name default is made.\n\n--oidc shows a URL of the issuer that the portals know " +
			"(vda_portal --oidc-issuer), to be opened\nin a browser on this machine. From another one, forward a port: " +
			"ssh -L 8250:127.0.0.1:8250,\nand --callback-port 8250. " +
			"With --device it shows a URL and a code instead, which a browser on any\nmachine takes, if the issuer " +
			"allows it (RFC 8628).",
		example: "  vda_cli login --user ann --addr-port 192.168.0.11:9520 --ca-file vda-ca.crt\n  vda_cli login --user ann --context prod\n" +
			"  vda_cli login --oidc --addr-port 192.168.0.11:9520 --ca-file vda-ca.crt\n  vda_cli login --oidc --device",
		flags: func(fs *pflag.FlagSet, o *options) {
			fs.StringVar(&o.user, "user", "", "`NAME` of the user; not given with --oidc, required without")
			fs.StringVar(&o.password, "password-file", "-", "`FILE` with the password in its first line, mode 0600; - asks at the terminal, or "+
				"reads standard input")
			fs.BoolVar(&o.oidc, "oidc", false, "log in at the issuer of OpenID Connect, in a browser")
			fs.BoolVar(&o.device, "device", false, "with --oidc: show a URL and a code for a browser on any other machine")
			fs.IntVar(&o.callbackPort, "callback-port", 0, "TCP `PORT` of this machine, on 127.0.0.1, that gets the issuer's answer; 0 takes a "+
				"free one")
		}},
	{verb: "logout", short: "End the session that login has begun", run: logout,
		long:    "\nIts token is of no use from then on, to nobody, and its file is removed.",
		example: "  vda_cli logout\n  vda_cli logout --context prod"},
}

// sessionFile is where the token of a context's session is kept.
func (c *contexts) sessionFile(name string) string {
	return filepath.Join(filepath.Dir(c.path), "sessions", name+".token")
}

func login(s *session, cmd *cobra.Command, _ []string, o *options) error {
	switch {
	case o.oidc && (o.user != "" || cmd.Flags().Changed("password-file")):
		return errors.New("--user and --password-file are not for --oidc: the issuer asks who logs in")
	case !o.oidc && o.device:
		return errors.New("--device is for --oidc alone")
	case o.device && cmd.Flags().Changed("callback-port"):
		return errors.New("--callback-port is not for --device: no browser comes back to this machine")
	case !o.oidc && cmd.Flags().Changed("callback-port"):
		return errors.New("--callback-port is for --oidc alone")
	case o.callbackPort < 0 || o.callbackPort > 65535:
		return fmt.Errorf("--callback-port %d: it must be a port, 1 to 65535, or 0 for a free one", o.callbackPort)
	case !o.oidc && o.user == "":
		return errors.New("--user is missing: the name of the user who logs in; or --oidc")
	}
	if err := s.useContext(cmd); err != nil {
		return err
	}
	all, _, err := s.readContexts(cmd.Context()) // the first one makes the file
	if err != nil {
		return err
	}
	if all.path == "" {
		return all.save() // which says what is missing
	}
	if s.ca == "" {
		return errors.New("--ca-file is missing: the CA of the cluster, tls.crt of the folder of vda_db --action make-ca; without it, " +
			"anyone who answers would get the password")
	}
	text, err := os.ReadFile(s.ca)
	if err != nil {
		return fmt.Errorf("--ca-file %s: %w", s.ca, cause(err))
	}
	trust, err := pki.PortalTLS(text)
	if err != nil {
		return fmt.Errorf("--ca-file %s: %w", s.ca, err)
	}
	password := ""
	if !o.oidc {
		if password, err = program.Secret(cmd, o.password, "Password of "+o.user+": "); err != nil {
			return fmt.Errorf("--password-file %s: %w", o.password, err)
		}
	}
	cfg := client.Config{Portals: strings.Split(s.portals, ","), Timeout: s.timeout}
	cfg.Dial.TLS = trust
	c, err := client.New(cfg)
	if err != nil {
		return fmt.Errorf("--addr-port %q: it must be HOST:PORT, like 192.168.0.11:9520, or several with commas between them", s.portals)
	}
	defer c.Close()
	var reply *apiv1.LoginReply
	if o.device {
		if reply, err = loginDevice(cmd.Context(), apiv1.NewSecurityClient(c), s.stderr); err != nil {
			return err
		}
	} else if o.oidc {
		if reply, err = loginOIDC(cmd.Context(), apiv1.NewSecurityClient(c), o.callbackPort, s.stderr); err != nil {
			return err
		}
	} else {
		reply, err = apiv1.NewSecurityClient(c).Login(cmd.Context(), &apiv1.LoginRequest{UserName: o.user, Password: password})
		if err != nil {
			return callFailure(err)
		}
	}
	name := cmp.Or(s.context, all.Current, "default")
	file := all.sessionFile(name)
	if err := keepToken(file, reply.Token); err != nil {
		return fmt.Errorf("the token of the session: %s: %w", file, cause(err))
	}
	one := all.Contexts[name]
	if one == nil {
		one = &cluster{}
		all.Contexts[name] = one
	}
	one.Portals, one.TokenFile = strings.Split(s.portals, ","), file
	if one.CAFile, err = filepath.Abs(s.ca); err != nil {
		return fmt.Errorf("--ca-file %s: %w", s.ca, cause(err))
	}
	all.Current = cmp.Or(all.Current, name)
	if err := all.save(); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is logged in with the role %s until %s; context %s has the session.\n",
		cmp.Or(reply.UserName, o.user), reply.Role,
		time.UnixMicro(reply.UntilUs).Format(time.RFC3339), name)
	return nil
}

// keepToken writes a file that its owner alone can read, as a whole or not at all.
func keepToken(file, token string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".token-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(token + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

func logout(s *session, cmd *cobra.Command, _ []string, _ *options) error {
	if err := s.useContext(cmd); err != nil {
		return err
	}
	all, err := s.contexts(cmd.Context())
	if err != nil {
		return err
	}
	name := cmp.Or(s.context, all.Current)
	one := all.Contexts[name]
	if one == nil || one.TokenFile != all.sessionFile(name) {
		return errors.New("there is no session to end: login begins one, and its context has it")
	}
	s.token = one.TokenFile
	c, err := s.client(s.timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = apiv1.NewSecurityClient(c).Logout(cmd.Context(), &apiv1.LogoutRequest{})
	if err != nil && client.CodeOf(err) != apiv1.CodeUnauthenticated { // it has ended
		return callFailure(err)
	}
	if err := os.Remove(one.TokenFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the token of the session: %s: %w", one.TokenFile, cause(err))
	}
	one.TokenFile = ""
	if err := all.save(); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, "The session has ended.")
	return nil
}
