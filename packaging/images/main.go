// Images makes an OCI image of each program, without a container engine: one
// static binary, an unprivileged user, and nothing else. The files can be loaded by
// "docker load" and "podman load".
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// programs that have an image: what runs as a container of its own.
var programs = []string{"vda_portal", "vda_monitor", "vda_dn_agent", "vda_cn_agent", "vda_tgt", "vda_db", "vda_cli", "vda_csi"}

// user runs the program: nobody that a host knows.
const user = 65532

func main() {
	bin := flag.String("bin", "bin", "folder of the programs")
	out := flag.String("out", "out/images", "folder for the images")
	version := flag.String("version", "devel", "tag of the images")
	flag.Parse()
	for _, p := range programs {
		path, err := build(*bin, *out, p, *version)
		if err != nil {
			fmt.Fprintln(os.Stderr, "images:", err)
			os.Exit(1)
		}
		fmt.Println(path)
	}
}

// build writes the image of a program and returns its path.
func build(bin, out, program, version string) (string, error) {
	ref, err := name.NewTag("vda/" + program + ":" + version)
	if err != nil {
		return "", fmt.Errorf("--version %q cannot be a tag: letters, digits, dots, dashes and underscores are", version)
	}
	files, err := layer(filepath.Join(bin, program), program)
	if err != nil {
		return "", err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil })
	if err != nil {
		return "", err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return "", err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return "", err
	}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{Entrypoint: []string{"/usr/bin/" + program}, User: fmt.Sprint(user), WorkingDir: "/",
		Labels: map[string]string{"org.opencontainers.image.title": program, "org.opencontainers.image.version": version,
			"org.opencontainers.image.licenses": "Apache-2.0"}}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return "", err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(out, program+".tar")
	return path, tarball.WriteToFile(path, ref, image)
}

// layer is the files of an image, as a tar that is the same for the same program.
func layer(path, program string) ([]byte, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data []byte) {
		if err == nil {
			h.Size, h.Format = int64(len(data)), tar.FormatPAX
			err = w.WriteHeader(&h)
		}
		if err == nil {
			_, err = w.Write(data)
		}
	}
	for _, dir := range []string{"etc/", "usr/", "usr/bin/", "var/", "var/lib/", "run/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	for _, dir := range []string{"var/lib/vda/", "run/vda/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o750, Uid: user, Gid: user}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644},
		fmt.Appendf(nil, "vda:x:%d:%d:VDA:/var/lib/vda:/sbin/nologin\n", user, user))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/" + program, Mode: 0o755}, binary)
	if err == nil {
		err = w.Close()
	}
	return slices.Clip(b.Bytes()), err
}
