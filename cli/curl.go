package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// inPath is a field's name in the path of a method.
var inPath = regexp.MustCompile(`\{(\w+)\}`)

// curlCommand is the call of a method over REST, as a command for a shell. Nothing is sent.
func (s *session) curlCommand(method protoreflect.MethodDescriptor, req proto.Message) (string, error) {
	verb, path, ok := apiv1.HTTPRule(string(method.Name()))
	if !ok {
		return "", fmt.Errorf("--curl: %s is not served over REST", method.Name())
	}
	m := proto.Clone(req).ProtoReflect()
	path = inPath.ReplaceAllStringFunc(path, func(in string) string {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(in[1 : len(in)-1]))
		text := m.Get(f).String()
		m.Clear(f)
		return url.PathEscape(text)
	})
	scheme, secured := "http", s.token != ""
	if secured {
		scheme = "https"
	}
	portal, _, _ := strings.Cut(s.portals, ",")
	words := []string{"curl", "-sS"}
	if verb != "GET" {
		words = append(words, "-X", verb)
	}
	if secured {
		words = append(words, "--cacert", shellWord(s.ca), "-H", `"Authorization: Bearer $(cat `+shellWord(s.token)+`)"`)
	} else {
		words = append(words, "-H", `"Authorization: Bearer $TOKEN"`)
	}
	at := scheme + "://" + portal + path
	switch verb {
	case "POST", "PATCH":
		body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Interface())
		if err != nil {
			return "", err
		}
		var one bytes.Buffer // protojson puts spaces in where it likes
		if err := json.Compact(&one, body); err != nil {
			return "", err
		}
		words = append(words, "-d", shellWord(one.String()))
	default:
		if q := queryOf("", m).Encode(); q != "" {
			at += "?" + q
		}
	}
	return strings.Join(append(words, shellWord(at)), " "), nil
}

// queryOf are the fields of a message that are set, as a query has them.
func queryOf(prefix string, m protoreflect.Message) url.Values {
	q := url.Values{}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := prefix + string(f.Name())
		switch {
		case f.IsList():
			for i := range v.List().Len() {
				q.Add(name, v.List().Get(i).String())
			}
		case f.Message() != nil:
			for key, values := range queryOf(name+".", v.Message()) {
				q[key] = values
			}
		default:
			q.Set(name, v.String())
		}
		return true
	})
	return q
}

// plainWord is one that a shell takes as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+-]+$`)

// shellWord is text as one word of a shell.
func shellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
