package controlplane

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/cli"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/support"
)

// TestSupportBundle: the bundle of a whole cluster, of which a node is down, holds rows, logs, what
// goroutines do, metrics, data planes and versions, and no secret that was planted in any of them.
func TestSupportBundle(t *testing.T) {
	dir := t.TempDir()
	c := build(t)
	dns, cns := []*box{c.box("dn", 4420), c.box("dn", 4421)}, []*box{c.box("cn", 4430), c.box("cn", 4431)}
	c.portal = c.client(client.Config{Portals: []string{c.at}})
	for i, b := range dns {
		c.start(b, "")
		c.must(c.portal.CreateDn(t.Context(), &apiv1.CreateDnRequest{DnName: b.name, DnListenerConf: listener(4420 + i)}))
		c.must(c.portal.CreatePd(t.Context(), &apiv1.CreatePdRequest{DnName: b.name, PdName: "pd0",
			PdConf: `{"type":"malloc","size":549755813888}`}))
	}
	for i, b := range cns {
		c.start(b, "")
		c.must(c.portal.CreateCn(t.Context(), &apiv1.CreateCnRequest{CnName: b.name, CnListenerConf: listener(4430 + i)}))
	}
	c.must(nil, c.array(0))

	const secret = "xyzzyHunter2plugh"
	ca, err := pki.NewCA("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	user, err := pki.NewUserToken("c1", ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	hash := pki.HashSecret(user.Secret)
	new(daemon.LogFlags).Log(io.Discard, nil).Error("a line of the log", "db", "postgresql://vda:"+secret+"@db1/vda", "token", secret,
		"header", "Authorization: Bearer "+secret, "user", user.String(), "key", "DHHC-1:00:"+secret+":")
	c.must(c.portal.ModifyDa(t.Context(), &apiv1.ModifyDaRequest{DaName: "da0", Label: []string{"db_password=" + secret, "env=prod"}}))
	text := `set "password": "` + secret + `" and DHHC-1:00:` + secret + `: at once`
	c.must(c.portal.ModifyDa(t.Context(), &apiv1.ModifyDaRequest{DaName: "da0", NewDescription: &text}))
	c.must(nil, c.open().Update(t.Context(), func(tx store.Tx) error {
		return tx.InsertToken(&store.Token{Hash: hash, Kind: pki.User, Name: "ann", Role: "admin", Expires: time.Now().Add(time.Hour)})
	}))
	dns[0].plane.SetLog("a line of the data plane\nlevel=ERROR token=" + secret + " db=postgresql://vda:" + secret + "@db1/vda\n" +
		strings.Repeat("a long line of the data plane's log, of which there are many\n", 40_000))
	cns[0].plane.SetLog("one line of the data plane\nlevel=ERROR token=" + secret + "\nDHHC-1:00:" + secret + ":\n")
	cns[1].plane.Hide("vda_get_log") // as SPDK
	down := dns[1]
	down.stop()

	file := filepath.Join(dir, "bundle.tar.gz")
	args := []string{"support", "dump", "--file", file, "--addr-port", c.portal.Portal()}
	var out, errs bytes.Buffer
	var files map[string]string
	// A busy machine may keep a data plane from answering in time: then the bundle says so.
	for late := true; late; {
		out.Reset()
		errs.Reset()
		_ = os.Remove(file)
		exit := cli.Program().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &errs})
		if exit != 0 || out.String() != file+"\n" {
			t.Fatalf("exit %d, %s%s", exit, out.String(), errs.String())
		}
		files, late = unpack(t, file), false
		for name, text := range files {
			late = late || strings.Contains(name, "/data_plane/") && strings.HasSuffix(name, ".error") && strings.Contains(text, reason.NoAnswer)
		}
	}
	if !strings.Contains(errs.String(), "vda_cli: note: dn/"+down.name+": ") {
		t.Errorf("that a node is down is not said: %s", errs.String())
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", st, err)
	}
	for name, has := range map[string]string{
		"client.txt":                                   "vda_cli ",
		"status.json":                                  `"status_msg"`,
		"version.json":                                 `"dn_agent"`,
		"alert.json":                                   "{",
		"rows/vda_da.jsonl":                            `"name":"da0"`,
		"rows/vda_vd.jsonl":                            `"dn_id":"`,
		"rows/vda_event.jsonl":                         "CreateDa",
		"rows/vda_token.jsonl":                         `"name":"ann"`,
		"rows/vda_label.jsonl":                         `"label_value":"prod"`,
		"portal/log.txt":                               "a line of the log",
		"portal/goroutines.txt":                        "DumpSupport",
		"portal/metrics.txt":                           "vda_build_info",
		"dn/" + down.name + ".error":                   "\n",
		"dn/" + dns[0].name + "/log.txt":               "a line of the log",
		"dn/" + dns[0].name + "/version.txt":           "commit",
		"dn/" + dns[0].name + "/goroutines.txt":        "goroutine ",
		"dn/" + dns[0].name + "/data_plane/status.txt": "Ready:true",
		"dn/" + dns[0].name + "/data_plane/bdev_get_bdevs.json":      `"name"`,
		"cn/" + cns[0].name + "/data_plane/nvmf_get_subsystems.json": `"nqn"`,
		"dn/" + dns[0].name + "/data_plane/log.txt":                  "a long line of the data plane's log",
		"cn/" + cns[0].name + "/data_plane/log.txt":                  "one line of the data plane",
		"cn/" + cns[1].name + "/data_plane/log.txt":                  "it is where its standard error goes to",
		"cn/" + cns[0].name + "/metrics.txt":                         "vda_server_healthy",
	} {
		if !strings.Contains(files[name], has) {
			t.Errorf("%s does not have %q: %.300s", name, has, files[name])
		}
	}
	if n := len(files["dn/"+dns[0].name+"/data_plane/log.txt"]); n < support.MaxFile/2 || n > support.MaxFile+100 {
		t.Errorf("of a data plane's long log there are %d bytes", n)
	}
	for name, text := range files {
		for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), user.Secret, user.String(), hash} {
			if strings.Contains(text, s) {
				t.Errorf("%s has a secret: %s", name, text[max(0, strings.Index(text, s)-100):strings.Index(text, s)+len(s)])
			}
		}
		if !strings.HasSuffix(name, ".jsonl") {
			continue
		}
		for line := range strings.Lines(text) {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: %s", name, line)
			}
		}
	}

	// Nothing is written over, and nothing is left of a bundle that nobody could make.
	errs.Reset()
	if exit := cli.Program().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &errs}); exit != 2 ||
		!strings.Contains(errs.String(), "--file "+file+": file exists") {
		t.Errorf("exit %d, %s", exit, errs.String())
	}
	errs.Reset()
	none := filepath.Join(dir, "none.tar.gz")
	args = []string{"support", "dump", "--file", none, "--addr-port", "127.0.0.1:1", "--timeout", "1s"}
	exit := cli.Program().Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &errs})
	if _, err := os.Stat(none); exit != 3 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a portal: exit %d, %v, %s", exit, err, errs.String())
	}
}

// unpack reads a bundle: the text of each file by its path below the bundle's folder.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] += string(text)
	}
}
