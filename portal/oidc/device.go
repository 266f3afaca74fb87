package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/virtual-disk-array/vda"
)

// Device is a login that a person confirms in a browser somewhere else (RFC 8628).
type Device struct {
	UserCode string        // what he enters
	URI      string        // where; https
	Complete string        // the same with the code in it, or ""
	Interval time.Duration // between two polls, at least
	Life     time.Duration // of the codes
	Code     string        // for Poll; who has it gets the session
}

const (
	deviceGrant    = "urn:ietf:params:oauth:grant-type:device_code"
	deviceInterval = 5 * time.Second // when the issuer names none: RFC 8628, section 3.2
	maxInterval    = time.Minute
	maxDeviceLife  = time.Hour
)

// Pending says that nobody has confirmed a login yet. Slow: it is asked for too often.
type Pending struct{ Slow bool }

func (p *Pending) Error() string { return "nobody has confirmed the login yet" } // reason: words of ours

// typed is what a person can be asked to enter, and a terminal can show.
var typed = regexp.MustCompile(`^[!-~]([ -~]{0,62}[!-~])?$`)

// BeginDevice begins a login. The error is of the kind vda.Unavailable, vda.ResourceExhausted or, as of an
// issuer that has no such logins, vda.FailedPrecondition.
func (i *Issuer) BeginDevice(ctx context.Context) (Device, error) {
	release, err := i.enter()
	if err != nil {
		return Device{}, err
	}
	defer release()
	p, err := i.provider(ctx)
	if err != nil {
		return Device{}, err
	}
	at := p.endpoint.DeviceAuthURL
	if u, err := url.Parse(at); at == "" {
		return Device{}, vda.Errorf(vda.FailedPrecondition, "the issuer %s has no logins by a browser elsewhere (it names no "+
			"device_authorization_endpoint): log in without --device, with --callback-port forwarded to a machine with a browser", i.cfg.Issuer)
	} else if err != nil || !safe(u) {
		return Device{}, vda.Errorf(vda.FailedPrecondition, "the issuer %s says its device_authorization_endpoint is %q, which must be an "+
			"https URL", i.cfg.Issuer, vda.Shorten(at, 200))
	}
	var got struct {
		Code     string  `json:"device_code"`
		UserCode string  `json:"user_code"`
		URI      string  `json:"verification_uri"`
		Old      string  `json:"verification_url"` // of issuers from before the RFC
		Complete string  `json:"verification_uri_complete"`
		Life     float64 `json:"expires_in"`
		Interval float64 `json:"interval"`
	}
	switch code, err := i.post(ctx, at, url.Values{"scope": {strings.Join(append([]string{oidc.ScopeOpenID}, i.cfg.Scopes...), " ")}}, &got); {
	case err != nil:
		return Device{}, err
	case code == "unauthorized_client" || code == "invalid_client":
		return Device{}, i.notClient(code)
	case code != "":
		return Device{}, vda.Errorf(vda.FailedPrecondition, "the issuer %s begins no login by a browser elsewhere (%s): the client %s must be "+
			"allowed the device flow there", i.cfg.Issuer, vda.Shorten(code, 60), i.cfg.ClientID)
	}
	if got.URI == "" {
		got.URI = got.Old
	}
	if !shown(got.URI) || !typed.MatchString(got.UserCode) || got.Code == "" || len(got.Code) > maxCode || got.Life <= 0 {
		return Device{}, i.away(errors.New("it begins a login without a code, a URL to enter it at, or a time"))
	}
	if !shown(got.Complete) {
		got.Complete = ""
	}
	d := Device{UserCode: got.UserCode, URI: got.URI, Complete: got.Complete, Code: got.Code, Interval: deviceInterval,
		Life: time.Duration(min(got.Life, maxDeviceLife.Seconds()) * float64(time.Second))}
	if got.Interval > 0 {
		d.Interval = time.Duration(min(max(got.Interval, 1), maxInterval.Seconds()) * float64(time.Second))
	}
	return d, nil
}

// maxCode is the longest code that is taken to the issuer.
const maxCode = 8192

// shown reports that a person can be sent to a URL.
func shown(text string) bool {
	u, err := url.Parse(text)
	return err == nil && safe(u) && len(text) <= 500 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// PollDevice says who has logged in. The error is a *Pending, a *RefusedError when nobody will any more, or one of the
// kinds that Login has.
func (i *Issuer) PollDevice(ctx context.Context, code string) (User, error) {
	if code == "" || len(code) > maxCode {
		return User{}, vda.Errorf(vda.InvalidArgument, "device_code has %d characters; it is what BeginDeviceLogin has answered", len(code))
	}
	release, err := i.enter()
	if err != nil {
		return User{}, err
	}
	defer release()
	p, err := i.provider(ctx)
	if err != nil {
		return User{}, err
	}
	var got struct {
		Token string `json:"id_token"`
	}
	switch problem, err := i.post(ctx, p.endpoint.TokenURL, url.Values{"grant_type": {deviceGrant}, "device_code": {code}}, &got); {
	case err != nil:
		return User{}, err
	case problem == "authorization_pending":
		return User{}, &Pending{}
	case problem == "slow_down":
		return User{}, &Pending{Slow: true}
	case problem == "access_denied":
		return User{}, refused("the issuer has logged nobody in: who was asked in the browser has declined, " +
			"or may not log in here (access_denied)")
	case problem == "expired_token":
		return User{}, refused("nobody has confirmed the login in time, and its code has expired (expired_token); log in again")
	case problem == "invalid_client" || problem == "unauthorized_client":
		return User{}, i.notClient(problem)
	case problem != "":
		return User{}, refused("the issuer does not know the login (%s): its code was used, has expired, or is invented; log in again",
			vda.Shorten(problem, 60))
	case got.Token == "":
		return User{}, i.noToken()
	}
	return i.user(ctx, p, got.Token, "") // there is no redirect that a nonce would bind it to
}

// post sends a form as the client, and decodes the answer, or returns the code of RFC 6749 by which the issuer refuses it.
func (i *Issuer) post(ctx context.Context, at string, form url.Values, answer any) (code string, err error) {
	ways := []bool{false}
	if i.cfg.Secret != "" { // section 2.3.1: most take the secret in the header, and some in the form alone
		ways = []bool{true, false}
	}
	form.Set("client_id", i.cfg.ClientID)
	for _, header := range ways {
		if code, err = i.postOnce(ctx, at, form, header, answer); err != nil || code != "invalid_client" {
			break
		}
	}
	return code, err
}

func (i *Issuer) postOnce(ctx context.Context, at string, form url.Values, header bool, answer any) (code string, err error) {
	if form.Del("client_secret"); !header && i.cfg.Secret != "" {
		form.Set("client_secret", i.cfg.Secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return "", i.away(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if header {
		req.SetBasicAuth(url.QueryEscape(i.cfg.ClientID), url.QueryEscape(i.cfg.Secret))
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return "", i.away(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", i.away(err)
	}
	if resp.StatusCode == http.StatusOK {
		if json.Unmarshal(body, answer) != nil { // its words would have parts of the answer
			return "", i.away(errors.New("what it says is not JSON"))
		}
		return "", nil
	}
	var problem struct {
		Code string `json:"error"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Code == "" || resp.StatusCode >= 500 {
		return "", i.away(fmt.Errorf("%s", resp.Status))
	}
	return problem.Code, nil
}
