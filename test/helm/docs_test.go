package helm

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/strvals"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/yaml"
)

var (
	blocks = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")
	word   = regexp.MustCompile(`(?:[^\s'"]|'[^']*'|"[^"]*")+`)
	quotes = strings.NewReplacer("'", "", `"`, "")
)

// typed are the commands of kubectl and helm in a document, as words.
func typed(t *testing.T, page string) (all [][]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks.FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(strings.ReplaceAll(b[1], "\\\n", " ")) {
			words := word.FindAllString(line, -1)
			for i := range words {
				words[i] = quotes.Replace(words[i])
			}
			if len(words) > 0 && (words[0] == "helm" || words[0] == "kubectl") {
				all = append(all, words)
			}
		}
	}
	return all
}

// flagsOf are the values of flags behind the first words of a command, each given as "--flag value" or
// "--flag=value".
func flagsOf(t *testing.T, words []string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for i := 0; i < len(words); i++ {
		name, value, with := strings.Cut(words[i], "=")
		if !with && i+1 < len(words) {
			i++
			value = words[i]
		}
		if !strings.HasPrefix(name, "--") || value == "" {
			t.Errorf("%q is not a flag with a value", words[i])
		}
		all[name] = append(all[name], value)
	}
	return all
}

// TestDocs types the commands of docs/kubernetes.md: what helm is told is linted and rendered with the
// charts that are there, and what kubectl makes is what these name, in their namespace.
func TestDocs(t *testing.T) {
	namespaces, released := map[string]bool{}, map[string]string{} // of which each release is
	secrets := map[string][]string{}                               // keys, by "NAMESPACE/NAME"
	for _, words := range typed(t, "docs/kubernetes.md") {
		line := strings.Join(words, " ")
		switch {
		case strings.HasPrefix(line, "kubectl create namespace ") && len(words) == 4:
			namespaces[words[3]] = true
		case strings.HasPrefix(line, "kubectl create secret generic ") && len(words) > 5:
			flags := flagsOf(t, words[5:])
			for name := range flags {
				if !slices.Contains([]string{"--namespace", "--from-file", "--from-literal"}, name) {
					t.Errorf("%s: kubectl create secret generic is not known to have %s", line, name)
				}
			}
			for _, pair := range slices.Concat(flags["--from-file"], flags["--from-literal"]) {
				key, _, _ := strings.Cut(pair, "=")
				at := strings.Join(flags["--namespace"], " ") + "/" + words[4]
				secrets[at] = append(secrets[at], key)
			}
		case strings.HasPrefix(line, "helm install ") && len(words) > 4:
			flags := flagsOf(t, words[4:])
			for name := range flags {
				if name != "--namespace" && name != "--set" {
					t.Errorf("%s: helm install is not tried with %s", line, name)
				}
			}
			if words[3] != "deploy/helm/"+words[2] || len(flags["--namespace"]) != 1 {
				t.Errorf("%s: the release %s is of %s, in the namespaces %v", line, words[2], words[3], flags["--namespace"])
				continue
			}
			released[words[2]] = flags["--namespace"][0]
			values := map[string]any{}
			for _, set := range flags["--set"] {
				if err := strvals.ParseInto(set, values); err != nil {
					t.Errorf("%s: --set %s: %v", line, set, err)
				}
			}
			for _, m := range lint.All(filepath.Join(root, words[3]), values, flags["--namespace"][0], true).Messages {
				if m.Severity >= support.WarningSev {
					t.Errorf("%s: lint: %v", line, m)
				}
			}
			set, err := render(t, words[2], values)
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			b, err := yaml.Marshal(set)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"registry.example.com/": "image", ":v1.0.0": "image.tag"} {
				if !strings.Contains(string(b), name) {
					t.Errorf("%s: %s is of no effect: nothing rendered has %s", line, value, name)
				}
			}
		default:
			t.Errorf("%s: no test types it", line)
		}
	}
	if len(released) != 2 || len(secrets) == 0 {
		t.Errorf("the document installs %v and makes %v", released, secrets)
	}
	for release, namespace := range released {
		if !namespaces[namespace] {
			t.Errorf("release %s goes to the namespace %s, which nothing makes", release, namespace)
		}
	}
	for at, keys := range secrets {
		namespace, name, _ := strings.Cut(at, "/")
		if namespace != released["vda-csi"] {
			t.Errorf("the secret %s is made in %q, where the driver does not look", name, namespace)
		}
		driver, err := filepath.Glob(filepath.Join(root, "csi/*/*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if !slices.ContainsFunc(driver, func(file string) bool {
				text, err := os.ReadFile(file)
				return err == nil && !strings.HasSuffix(file, "_test.go") && strings.Contains(string(text), `"`+key+`"`)
			}) {
				t.Errorf("the driver does not read %s of the secret %s", key, name)
			}
		}
		set, err := render(t, "vda-csi", map[string]any{"portals": []any{"h:1"}, "storageClasses": []any{map[string]any{"name": "gold",
			"secret": name, "parameters": map[string]any{"dhchap": "mutual"}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := set["StorageClass gold"].(*storagev1.StorageClass).Parameters["csi.storage.k8s.io/node-stage-secret-name"]; got != name {
			t.Errorf("a class with the secret %s names %q", name, got)
		}
	}
}
