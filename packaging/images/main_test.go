package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestImages: an image can be loaded, runs its program as an unprivileged user, and
// is the same when it is made again.
func TestImages(t *testing.T) {
	bin, out := t.TempDir(), t.TempDir()
	build1 := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", bin+"/", "../../cmd/vda_cli")
	build1.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build1.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	path, err := build(bin, out, "vda_cli", "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c := config.Config; c.User != "65532" || len(c.Entrypoint) != 1 || c.Entrypoint[0] != "/usr/bin/vda_cli" || config.OS != "linux" {
		t.Errorf("the image's config is %+v", config)
	}
	files := tar.NewReader(mutate.Extract(image))
	program := filepath.Join(t.TempDir(), "vda_cli")
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Trim(h.Name, "/") == "usr/bin/vda_cli" {
			b, err := io.ReadAll(files)
			if err == nil {
				err = os.WriteFile(program, b, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if said, err := exec.CommandContext(t.Context(), program, "--version").CombinedOutput(); err != nil ||
		!strings.Contains(string(said), "vda_cli") {
		t.Errorf("its program says %q, %v", said, err)
	}
	before, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if path, err = build(bin, t.TempDir(), "vda_cli", "1.2.3"); err != nil {
		t.Fatal(err)
	}
	if image, err = tarball.ImageFromPath(path, nil); err != nil {
		t.Fatal(err)
	}
	if after, err := image.Digest(); err != nil || after != before {
		t.Errorf("made again it is %v, %v; it was %v", after, err, before)
	}
	if _, err := build(bin, out, "vda_cli", "not a tag"); err == nil || !strings.Contains(err.Error(), `--version "not a tag"`) {
		t.Errorf("a version that is not a tag: %v", err)
	}
}
