package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

const (
	browserTime  = 10 * time.Minute // for a person to log in
	callbackPath = "/callback"
)

// loginOIDC begins a session at the portals' issuer: a browser of this machine logs in there, and
// brings the issuer's answer to a port of this machine. The portal trades it for the session.
func loginOIDC(ctx context.Context, portal apiv1.SecurityClient, port int, say io.Writer) (*apiv1.LoginReply, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("--callback-port %d: %w", port, err)
	}
	state, nonce, verifier := rand.Text(), rand.Text(), rand.Text()+rand.Text()
	answers := make(chan answer, 1)
	srv := &http.Server{Handler: callback(state, answers), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(late) != nil { // a browser that is slow to read what it was told
			_ = srv.Close()
		}
		<-served
	}()
	sum := sha256.Sum256([]byte(verifier))
	redirect := "http://" + lis.Addr().String() + callbackPath
	reply, err := portal.GetLoginUrl(ctx, &apiv1.GetLoginUrlRequest{RedirectUri: redirect, State: state, Nonce: nonce,
		CodeChallenge: base64.RawURLEncoding.EncodeToString(sum[:])})
	if err != nil {
		return nil, callFailure(err)
	}
	fmt.Fprintf(say, "Log in with a browser on this machine:\n%s\n", reply.Url)
	late := time.NewTimer(browserTime)
	defer late.Stop()
	select {
	case a := <-answers:
		if a.problem != "" {
			return nil, errors.New("the issuer has logged nobody in: " + a.problem)
		}
		session, err := portal.LoginOidc(ctx, &apiv1.LoginOidcRequest{Code: a.code, CodeVerifier: verifier, Nonce: nonce, RedirectUri: redirect})
		if err != nil {
			return nil, callFailure(err)
		}
		return session, nil
	case <-late.C:
		return nil, fmt.Errorf("nobody has logged in at the issuer within %v", browserTime)
	case err := <-served:
		served <- err
		return nil, fmt.Errorf("the issuer's answer cannot be waited for: %w", err)
	case <-ctx.Done():
		return nil, errors.New("interrupted before anybody had logged in at the issuer")
	}
}

// answer is what the issuer says by way of the browser.
type answer struct{ code, problem string }

// callback takes one answer to the login of a state, and none to others.
func callback(state string, answers chan<- answer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callbackPath, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		a := answer{code: q.Get("code")}
		switch {
		case q.Get("state") != state:
			http.Error(w, "This is no answer to the login that vda_cli waits for.", http.StatusForbidden)
			return
		case q.Get("error") != "" || a.code == "":
			a = answer{problem: vda.Shorten(strings.TrimSpace(q.Get("error")+" "+q.Get("error_description")), 300)}
			if a.problem == "" {
				a.problem = "its answer has no code"
			}
		}
		select {
		case answers <- a:
			fmt.Fprintln(w, "vda_cli has the answer, and says how the login has ended. This window may be closed.")
		default:
			http.Error(w, "The login has had its answer.", http.StatusConflict)
		}
	})
	return mux
}
