package helm

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const root = "../.."

// snapshotClass and snapshot are of the CRDs of snapshots, as far as they are used.
type snapshotClass struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Driver            string            `json:"driver"`
	DeletionPolicy    string            `json:"deletionPolicy"`
	Parameters        map[string]string `json:"parameters"`
}

type snapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Source struct {
			PersistentVolumeClaimName string `json:"persistentVolumeClaimName"`
		} `json:"source"`
		VolumeSnapshotClassName string `json:"volumeSnapshotClassName"`
	} `json:"spec"`
}

// groupSnapshot is of the CRDs of group snapshots, as far as it is used.
type groupSnapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Source struct {
			Selector metav1.LabelSelector `json:"selector"`
		} `json:"source"`
		VolumeGroupSnapshotClassName string `json:"volumeGroupSnapshotClassName"`
	} `json:"spec"`
}

// kinds are all that charts and examples may have.
var kinds = map[string]func() any{
	"v1 ServiceAccount":                               func() any { return &corev1.ServiceAccount{} },
	"batch/v1 Job":                                    func() any { return &batchv1.Job{} },
	"v1 Service":                                      func() any { return &corev1.Service{} },
	"v1 PersistentVolumeClaim":                        func() any { return &corev1.PersistentVolumeClaim{} },
	"apps/v1 Deployment":                              func() any { return &appsv1.Deployment{} },
	"apps/v1 DaemonSet":                               func() any { return &appsv1.DaemonSet{} },
	"apps/v1 StatefulSet":                             func() any { return &appsv1.StatefulSet{} },
	"policy/v1 PodDisruptionBudget":                   func() any { return &policyv1.PodDisruptionBudget{} },
	"rbac.authorization.k8s.io/v1 Role":               func() any { return &rbacv1.Role{} },
	"rbac.authorization.k8s.io/v1 RoleBinding":        func() any { return &rbacv1.RoleBinding{} },
	"rbac.authorization.k8s.io/v1 ClusterRole":        func() any { return &rbacv1.ClusterRole{} },
	"rbac.authorization.k8s.io/v1 ClusterRoleBinding": func() any { return &rbacv1.ClusterRoleBinding{} },
	"storage.k8s.io/v1 CSIDriver":                     func() any { return &storagev1.CSIDriver{} },
	"storage.k8s.io/v1 StorageClass":                  func() any { return &storagev1.StorageClass{} },
	"storage.k8s.io/v1 VolumeAttributesClass":         func() any { return &storagev1.VolumeAttributesClass{} },
	"snapshot.storage.k8s.io/v1 VolumeSnapshotClass":  func() any { return &snapshotClass{} },
	"snapshot.storage.k8s.io/v1 VolumeSnapshot":       func() any { return &snapshot{} },

	"groupsnapshot.storage.k8s.io/v1beta1 VolumeGroupSnapshotClass": func() any { return &snapshotClass{} },
	"groupsnapshot.storage.k8s.io/v1beta1 VolumeGroupSnapshot":      func() any { return &groupSnapshot{} },
}

// objects decodes documents strictly, as the API server does, by "KIND NAME".
func objects(t *testing.T, file, text string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, doc := range regexp.MustCompile(`(?m)^---$`).Split(text, -1) {
		var head struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, doc)
		}
		if head.Kind == "" {
			continue
		}
		make := kinds[head.APIVersion+" "+head.Kind]
		if make == nil {
			t.Fatalf("%s has a %s %s, which is not decoded here", file, head.APIVersion, head.Kind)
		}
		o := make()
		if err := yaml.UnmarshalStrict([]byte(doc), o); err != nil {
			t.Errorf("%s, %s %s: %v", file, head.Kind, head.Name, err)
		}
		key := head.Kind + " " + head.Name
		if all[key] != nil {
			t.Errorf("%s has two %s", file, key)
		}
		all[key] = o
	}
	return all
}

// render is helm template, of a release that is called as its chart.
func render(t *testing.T, chart string, values map[string]any) (map[string]any, error) {
	t.Helper()
	c, err := loader.Load(filepath.Join(root, "deploy/helm", chart))
	if err != nil {
		t.Fatal(err)
	}
	v, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: chart, Namespace: "storage", IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, v)
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			maps.Copy(all, objects(t, name, files[name]))
		}
	}
	return all, nil
}

// full has every value that is not on by itself.
func full() map[string]any {
	return map[string]any{
		"portals": []any{"192.168.0.11:9520", "[fd00::1]:9520"}, "tokenSecret": "vda-token", "volumeAttributesClass": true,
		"groupSnapshots":   true,
		"imagePullSecrets": []any{"registry"}, "secrets": []any{"other"}, "node": map[string]any{"location": "rack1",
			"nodeSelector": map[string]any{"vda": "yes"}}, "controller": map[string]any{"tolerations": []any{map[string]any{"operator": "Exists"}},
			"nodeSelector": map[string]any{"vda": "yes"}},
		"storageClasses": []any{map[string]any{"name": "vda", "default": true, "secret": "vda-token", "mountOptions": []any{"noatime"},
			"parameters": map[string]any{"redundancy": "mirror:2", "dhchap": "mutual"}}, map[string]any{"name": "plain"}},
	}
}

// TestLint is helm lint.
func TestLint(t *testing.T) {
	for name, values := range map[string]map[string]any{"few": {"portals": []any{"portal:9520"}}, "full": full()} {
		l := lint.All(filepath.Join(root, "deploy/helm/vda-csi"), values, "storage", true)
		for _, m := range l.Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// TestChart: what the chart renders is what Kubernetes' types have, and hangs together.
func TestChart(t *testing.T) {
	few, err := render(t, "vda-csi", map[string]any{"portals": []any{"portal:9520"}, "snapshots": false})
	if err != nil {
		t.Fatal(err)
	}
	all, err := render(t, "vda-csi", full())
	if err != nil {
		t.Fatal(err)
	}
	if len(few) != 10 || len(all) != 12 {
		t.Errorf("%d and %d objects: %v", len(few), len(all), slices.Sorted(maps.Keys(all)))
	}
	flags, err := os.ReadFile(filepath.Join(root, "docs/daemons/vda_csi.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []map[string]any{few, all} {
		controller, node := set["Deployment vda-csi-controller"].(*appsv1.Deployment), set["DaemonSet vda-csi-node"].(*appsv1.DaemonSet)
		for _, x := range []struct {
			selector *metav1.LabelSelector
			pod      corev1.PodTemplateSpec
		}{{controller.Spec.Selector, controller.Spec.Template}, {node.Spec.Selector, node.Spec.Template}} {
			for k, v := range x.selector.MatchLabels {
				if x.pod.Labels[k] != v {
					t.Errorf("the selector's %s=%s is not a label of its pods", k, v)
				}
			}
			if set["ServiceAccount "+x.pod.Spec.ServiceAccountName] == nil {
				t.Errorf("there is no service account %s", x.pod.Spec.ServiceAccountName)
			}
			if x.pod.Spec.PriorityClassName == "" {
				t.Error("pods have no priority")
			}
			mounts(t, &x.pod.Spec)
			for _, arg := range x.pod.Spec.Containers[0].Args {
				name, _, _ := strings.Cut(arg, "=")
				if !bytes.Contains(flags, []byte("`"+name+"`")) {
					t.Errorf("vda_csi has no flag %s", name)
				}
			}
		}
		if pdb := set["PodDisruptionBudget vda-csi-controller"].(*policyv1.PodDisruptionBudget); !maps.Equal(pdb.Spec.Selector.MatchLabels,
			controller.Spec.Selector.MatchLabels) {
			t.Error("the budget is of other pods")
		}
		n := node.Spec.Template.Spec
		if !n.HostNetwork || *n.AutomountServiceAccountToken || !*n.Containers[0].SecurityContext.Privileged {
			t.Error("the node's pod lacks the node's network or rights, or has a token")
		}
		narrow(t, set)
	}
	if got := len(all["Deployment vda-csi-controller"].(*appsv1.Deployment).Spec.Template.Spec.Containers); got != 5 {
		t.Errorf("the controller has %d containers", got)
	}
	if got := len(few["Deployment vda-csi-controller"].(*appsv1.Deployment).Spec.Template.Spec.Containers); got != 4 {
		t.Errorf("without snapshots the controller has %d containers", got)
	}
	some, err := render(t, "vda-csi", map[string]any{"portals": []any{"portal:9520"}})
	if err != nil {
		t.Fatal(err)
	}
	if groups(all) != "rules, flag" || groups(some) != "" || groups(few) != "" {
		t.Errorf("group snapshots: %q, by default %q, without snapshots %q", groups(all), groups(some), groups(few))
	}
	class := all["StorageClass vda"].(*storagev1.StorageClass).Parameters
	parameters(t, class)
	for _, usual := range []string{"provisioner", "controller-publish", "controller-expand", "node-stage"} {
		prefix := "csi.storage.k8s.io/" + usual + "-secret-"
		if class[prefix+"name"] != "vda-token" || class[prefix+"namespace"] != "storage" {
			t.Errorf("a class with keys has no %s secret: %v", usual, class)
		}
	}
}

// groups says what there is for group snapshots: without their CRDs, a snapshotter that
// has the flag takes no snapshots of one volume either.
func groups(set map[string]any) string {
	var has []string
	for _, r := range set["ClusterRole vda-csi-controller"].(*rbacv1.ClusterRole).Rules {
		if slices.Contains(r.APIGroups, "groupsnapshot.storage.k8s.io") {
			has = append(has, "rules")
		}
	}
	for _, c := range set["Deployment vda-csi-controller"].(*appsv1.Deployment).Spec.Template.Spec.Containers {
		if c.Name == "csi-snapshotter" && slices.Contains(c.Args, "--feature-gates=CSIVolumeGroupSnapshot=true") {
			has = append(has, "flag")
		}
	}
	return strings.Join(slices.Compact(has), ", ")
}

// mounts checks that each container's mounts are volumes of the pod, and that it has limits.
func mounts(t *testing.T, pod *corev1.PodSpec) {
	t.Helper()
	used := map[string]bool{}
	for _, c := range pod.Containers {
		for _, m := range c.VolumeMounts {
			used[m.Name] = true
			if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
				t.Errorf("%s mounts %s, which is not there", c.Name, m.Name)
			}
		}
		if c.Resources.Limits.Memory().IsZero() || c.SecurityContext == nil {
			t.Errorf("%s has no limit of memory, or no security context", c.Name)
		}
	}
	for _, v := range pod.Volumes {
		if !used[v.Name] {
			t.Errorf("nobody mounts %s", v.Name)
		}
	}
	if c := pod.Containers[0]; c.LivenessProbe == nil || c.ReadinessProbe == nil {
		t.Error("the driver is not probed")
	}
}

// narrow checks that roles have no wildcards, and secrets only by their names.
func narrow(t *testing.T, set map[string]any) {
	t.Helper()
	check := func(name string, rules []rbacv1.PolicyRule, secrets bool) {
		for _, r := range rules {
			if slices.Contains(slices.Concat(r.Verbs, r.Resources, r.APIGroups), "*") {
				t.Errorf("%s allows all: %v", name, r)
			}
			if slices.Contains(r.Resources, "secrets") && (!secrets || len(r.ResourceNames) == 0) {
				t.Errorf("%s reads secrets that are not named: %v", name, r)
			}
		}
	}
	check("the cluster role", set["ClusterRole vda-csi-controller"].(*rbacv1.ClusterRole).Rules, false)
	check("the role", set["Role vda-csi-controller"].(*rbacv1.Role).Rules, true)
}

// parameters checks that a StorageClass's are documented, which the driver refuses otherwise.
func parameters(t *testing.T, all map[string]string) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(root, "docs/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	for k := range all {
		if !strings.Contains(k, "-secret-name") && !bytes.Contains(doc, []byte("`"+k+"`")) {
			t.Errorf("the parameter %s is not one of docs/kubernetes.md", k)
		}
	}
}

// TestValuesAreChecked: what is missing, misspelt or wrong is refused before anything is
// installed, with its name.
func TestValuesAreChecked(t *testing.T) {
	portals := []any{"portal:9520"}
	for says, values := range map[string]map[string]any{
		"portals":     {},
		"replica":     {"portals": portals, "controller": map[string]any{"replica": 2}},
		"tokensecret": {"portals": portals, "tokensecret": "x"},
		"/portals/0":  {"portals": []any{"portal"}},
		"logLevel":    {"portals": portals, "logLevel": "loud"},
		"kubeletDir":  {"portals": portals, "kubeletDir": "var/lib/kubelet"},
		"provisioner": {"portals": portals, "sidecars": map[string]any{"provisioner": "csi-provisioner"}},
		"stripeCount": {"portals": portals, "storageClasses": []any{map[string]any{"name": "x",
			"parameters": map[string]any{"stripeCount": 2}}}},
		"dhchap": {"portals": portals, "storageClasses": []any{map[string]any{"name": "x",
			"parameters": map[string]any{"dhchap": "host"}}}},
		"reclaimPolic": {"portals": portals, "storageClasses": []any{map[string]any{"name": "x", "reclaimPolicy": "Keep"}}},
	} {
		if _, err := render(t, "vda-csi", values); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), ".", "/"), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// TestExamples: the examples are what Kubernetes' types have, and use what another has.
func TestExamples(t *testing.T) {
	all := map[string]any{}
	err := fs.WalkDir(os.DirFS(filepath.Join(root, "deploy/kubernetes/examples")), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(root, "deploy/kubernetes/examples", path))
		maps.Copy(all, objects(t, path, string(text)))
		return err
	})
	if err != nil || len(all) < 8 {
		t.Fatalf("%v: %v", err, all)
	}
	for name, o := range all {
		switch o := o.(type) {
		case *corev1.PersistentVolumeClaim:
			claim(t, name, all, &o.Spec)
		case *appsv1.StatefulSet:
			for i := range o.Spec.VolumeClaimTemplates {
				claim(t, name, all, &o.Spec.VolumeClaimTemplates[i].Spec)
			}
		case *storagev1.StorageClass:
			parameters(t, o.Parameters)
		case *storagev1.VolumeAttributesClass:
			parameters(t, o.Parameters)
		case *groupSnapshot:
			if all["VolumeGroupSnapshotClass "+o.Spec.VolumeGroupSnapshotClassName] == nil || len(o.Spec.Source.Selector.MatchLabels) == 0 {
				t.Errorf("%s is of the class %s, or of no volumes", name, o.Spec.VolumeGroupSnapshotClassName)
			}
		case *snapshot:
			if all["VolumeSnapshotClass "+o.Spec.VolumeSnapshotClassName] == nil {
				t.Errorf("%s is of the class %s, which is not there", name, o.Spec.VolumeSnapshotClassName)
			}
		}
	}
}

func claim(t *testing.T, name string, all map[string]any, c *corev1.PersistentVolumeClaimSpec) {
	t.Helper()
	if all["StorageClass "+*c.StorageClassName] == nil {
		t.Errorf("%s is of the class %s, which is not there", name, *c.StorageClassName)
	}
	if from := c.DataSource; from != nil && from.Kind == "VolumeSnapshot" && all["VolumeSnapshot "+from.Name] == nil {
		t.Errorf("%s is of the snapshot %s, which is not there", name, from.Name)
	}
}
