package apiv1

import (
	_ "embed"
	"regexp"
	"strings"
)

//go:embed portal.http.yaml
var httpRules string

// httpRule finds a rule of the file: the method of the portal, the method of HTTP, the path.
var httpRule = regexp.MustCompile(`selector: vda\.v1\.Portal\.(\w+), (get|post|patch|delete): (?:"([^"]+)"|([^",}\s]+))`)

// HTTPRule says where a method of the portal is served over HTTP: the method of HTTP in upper
// case, and the path, with names of fields in braces. Methods with a body take it as "*": all
// fields that are not in the path. ok is false for a method that is served over gRPC alone.
func HTTPRule(method string) (verb, path string, ok bool) {
	for _, m := range httpRule.FindAllStringSubmatch(httpRules, -1) {
		if m[1] == method {
			return strings.ToUpper(m[2]), m[3] + m[4], true
		}
	}
	return "", "", false
}
