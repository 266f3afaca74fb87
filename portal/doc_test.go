package portal

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestErrorsDoc keeps docs/errors.md and the reply codes alike.
func TestErrorsDoc(t *testing.T) {
	b, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[replyCode]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| ([A-Z_]+|–) \|`).FindAllStringSubmatch(string(b), -1) {
		n, err := strconv.Atoi(row[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[replyCode(n)] = strings.ReplaceAll(row[2], "_", "")
	}
	if len(documented) != len(grpcCodes)+2 { // success, and vda_cli's own
		t.Errorf("%d codes documented, %d exist", len(documented), len(grpcCodes)+2)
	}
	for code, status := range grpcCodes {
		// gRPC's own names: "CANCELLED" on the wire is Canceled in Go.
		got := strings.Replace(documented[code], "CANCELLED", "CANCELED", 1)
		if got != strings.ToUpper(status.String()) {
			t.Errorf("code %d is %s, documented as %q", code, status, documented[code])
		}
	}
	for kind := range codeOfKind {
		if codeOfKind[kind] == codeSuccess {
			t.Errorf("%v is a success", kind)
		}
	}
}
