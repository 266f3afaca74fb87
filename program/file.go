package program

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// fileLine is one flag of a configuration file.
type fileLine struct {
	number int // of the line, from 1
	name   string
	value  *yaml.Node
}

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// readFile reads a configuration file: one mapping from names of flags to
// values.
func readFile(path string) ([]fileLine, error) {
	file, err := os.Open(path)
	if err != nil {
		var at *os.PathError
		if errors.As(err, &at) {
			err = at.Err // the path is said already
		}
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxFile:
		return nil, fmt.Errorf("it must be at most %d bytes", maxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil // nothing but comments
	case err != nil:
		return nil, NotYAML(err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it must hold one YAML document")
	}
	return lines(doc.Content[0])
}

func lines(top *yaml.Node) ([]fileLine, error) {
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: it must be a YAML mapping from names of flags to values, such as log-level: debug", top.Line)
	}
	var out []fileLine
	at := map[string]int{}
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: a key must be the name of a flag", key.Line)
		}
		if before := at[key.Value]; before != 0 {
			return nil, fmt.Errorf("line %d: %s is given in line %d already", key.Line, key.Value, before)
		}
		at[key.Value] = key.Line
		out = append(out, fileLine{key.Line, key.Value, value})
	}
	return out, nil
}

// texts returns a line's values as they would stand on the command line.
func (l fileLine) texts(f *pflag.Flag) ([]string, error) {
	_, many := f.Value.(pflag.SliceValue)
	switch {
	case l.value.Kind == yaml.MappingNode && isJSON(f):
		var object map[string]any
		if err := l.value.Decode(&object); err != nil {
			return nil, NotYAML(err)
		}
		text, err := json.Marshal(object)
		return []string{string(text)}, err
	case l.value.Kind == yaml.SequenceNode && many:
		var values []string
		for _, v := range l.value.Content {
			text, err := scalar(v)
			if err != nil {
				return nil, err
			}
			values = append(values, text)
		}
		if len(values) == 0 {
			return nil, errors.New("the list is empty; leave the line out for the default")
		}
		return values, nil
	}
	text, err := scalar(l.value)
	return []string{text}, err
}

func scalar(v *yaml.Node) (string, error) {
	switch {
	case v.Kind != yaml.ScalarNode:
		return "", errors.New("it must be one value, not a list or a mapping")
	case v.Tag == "!!null":
		return "", errors.New(`there is no value; leave the line out for the default, or write "" for an empty one`)
	}
	return v.Value, nil
}

// isJSON reports whether help calls the value of a flag JSON.
func isJSON(f *pflag.Flag) bool {
	name, _ := pflag.UnquoteUsage(f)
	return name == "JSON"
}

var yamlPrefix = regexp.MustCompile(`^yaml: (unmarshal errors:\s*)?`)

// NotYAML says what is wrong with a text, not which library found it.
func NotYAML(err error) error {
	text := yamlPrefix.ReplaceAllString(err.Error(), "") // reason: the prefix is cut
	return errors.New("it is not valid YAML: " + text)
}
