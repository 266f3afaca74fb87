package support

import (
	"strings"
	"testing"
)

// TestScrub: no secret stays in whatever form programs write it, and what is not one does.
func TestScrub(t *testing.T) {
	const s = "hunter2xyzzy"
	for _, text := range []string{
		`level=INFO msg=x db_uri=postgresql://vda:` + s + `@10.0.0.1:5432/vda`,
		`mysql://vda:a@b/` + s + `@h/d`,
		`Authorization: Bearer ` + s,
		`authorization=["Bearer ` + s + `"]`,
		`{"password":"` + s + `"}`, `{"db_password" : "a\\` + s + `"}`, `{"dhchap_ctrlr_key": "` + s + `"}`,
		`"text":"{\"secret\":\"` + s + `\"}"`,
		`{"hopKey":"` + s + `="}`, `{"secondaryHopKeys":["a", "` + s + `="], "term":"3"}`, `{"hop_key": "` + s + `"}`,
		`token=` + s, `web-token='` + s + `'`, `PSK="a b ` + s + `"`, `password: ` + s,
		`vda-user-` + s, `vda-enrol-` + s + `-_`, `DHHC-1:00:` + s + `==:`, `NVMeTLSkey-1:01:` + s + `:`,
		"-----BEGIN EC PRIVATE KEY-----\n" + s + "\n-----END EC PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\n" + s,
		`curl -H "Authorization: Basic ` + s + `="`,
	} {
		if got := string(Scrub([]byte(text))); strings.Contains(got, s) || !strings.Contains(got, redacted) {
			t.Errorf("%s\nbecomes\n%s", text, got)
		}
	}
	for _, text := range []string{
		`level=INFO msg="array da0 serves" term=7 key=value name=a:b@c`,
		`{"nqn":"nqn.2016-06.io.spdk:vda-exp-da0-exp0","traddr":"192.168.0.14","version":12}`,
		`tcp://192.168.0.14:4420`, `the token is for another CA`, `bearer of news`[:6],
	} {
		if got := string(Scrub([]byte(text))); got != text {
			t.Errorf("%s\nbecomes\n%s", text, got)
		}
	}
	for column, secret := range map[string]bool{"hash": true, "secret": true, "dhchap_key": true,
		"dhchap_keys": true, "psk": true, "hop_secret": true,
		"web_password": true, "name": false, "label_key": false, "version": false, "id": false, "marks": false} {
		if SecretColumn("vda_da", column) != secret {
			t.Errorf("column %s", column)
		}
	}
	if !SecretColumn("vda_user", "password") {
		t.Error("the hashes of passwords are shown")
	}
	if !SecretColumn("vda_token", "id") {
		t.Error("tokens are found by their id")
	}
}

// TestClean: of a long log the end stays.
func TestClean(t *testing.T) {
	f := Clean("log.txt", []byte(strings.Repeat("x", MaxFile)+"the end"))
	if !strings.HasPrefix(string(f.Content), "(7 bytes before this are left out)\nxxx") || !strings.HasSuffix(string(f.Content), "xthe end") {
		t.Errorf("%.60s", f.Content)
	}
	if g := Goroutines(); !strings.Contains(string(g.Content), "support.TestClean") {
		t.Errorf("goroutines:\n%.300s", g.Content)
	}
}
