package portal

import (
	"slices"
	"strings"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestRolesOfAllMethods: each method of the portal has a row that says who may call it, and
// only what changes nothing is for viewers, but for who the users are; and what is theirs: their
// password and sessions.
func TestRolesOfAllMethods(t *testing.T) {
	known := map[string]bool{}
	check := func(name string) {
		known[name] = true
		may, ok := roles[name]
		if !ok {
			t.Errorf("%s has no row in roles", name)
		}
		theirs := name == "SetPassword" || name == "DeleteSession"
		if got := slices.Contains(may, roleViewer); got != theirs && got == (changes(name) || name == "ListUser") {
			t.Errorf("%s: a viewer may is %v", name, got)
		}
	}
	for _, m := range apiv1.Portal_ServiceDesc.Methods {
		check(m.MethodName)
	}
	for _, m := range apiv1.Portal_ServiceDesc.Streams {
		check(m.StreamName)
	}
	for name := range roles {
		if !known[name] {
			t.Errorf("roles has %s, which is not a method", name)
		}
	}
}

// TestSecretsAreNotLogged: a field that the API marks is not in what the log gets of a request.
func TestSecretsAreNotLogged(t *testing.T) {
	req := &apiv1.EnrolRequest{Kind: "dn", Name: "a:1", Secret: "planted", Request: []byte("csr")}
	if got := requestText(req); got != "kind=dn name=a:1 secret=(not shown) request=(3 bytes)" {
		t.Errorf("the audit gets %s", got)
	}
	if got := loggable(req); strings.Contains(got, "planted") || !strings.Contains(got, "a:1") {
		t.Errorf("the log gets %s", got)
	}
	if req.Secret != "planted" {
		t.Error("the request is changed")
	}
}
