package helm

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// plain and secured are values of control planes.
func plain() map[string]any {
	return map[string]any{"database": map[string]any{"secret": "vda-db"}, "portal": map[string]any{"webTokenSecret": "vda-web"}}
}

func secured() map[string]any {
	return map[string]any{
		"database": map[string]any{"secret": "vda-db", "key": "dsn"},
		"tls":      map[string]any{"caSecret": "vda-ca", "webSecret": "vda-web-tls"},
		"image":    map[string]any{"registry": "registry.example.com", "tag": "v1.0.0"}, "imagePullSecrets": []any{"registry"},
		"portal": map[string]any{"oidc": map[string]any{"issuer": "https://login.example.com/realms/main", "clientId": "vda",
			"clientSecret": "vda-oidc", "caConfigMap": "company-ca",
			"roles": map[string]any{"storage-admins": "admin", "cn=all,dc=example": "viewer"}},
			"replicas": 3, "nodeSelector": map[string]any{"vda": "yes"},
			"service": map[string]any{"type": "LoadBalancer", "loadBalancerIP": "192.0.2.9", "annotations": map[string]any{"a": "b"}}},
		"monitor": map[string]any{"replicas": 2, "enrolSecret": "vda-enrol", "tolerations": []any{map[string]any{"operator": "Exists"}},
			"storage": map[string]any{"storageClassName": "fast"}, "flags": map[string]any{"repair-after": "30m", "keep-events": 1000000}},
	}
}

// TestControlPlane: what the chart of the control plane renders is what Kubernetes' types have and
// hangs together, secrets are files that nobody else may read, and every flag is one of its program.
func TestControlPlane(t *testing.T) {
	for name, values := range map[string]map[string]any{"plain": plain(), "secured": secured()} {
		for _, m := range lint.All(filepath.Join(root, "deploy/helm/vda"), values, "storage", true).Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("lint, %s: %v", name, m)
			}
		}
		set, err := render(t, "vda", values)
		if err != nil {
			t.Fatal(err)
		}
		if len(set) != 7 {
			t.Errorf("%s: %v", name, slices.Sorted(maps.Keys(set)))
		}
		portal, monitor := set["Deployment vda-portal"].(*appsv1.Deployment), set["StatefulSet vda-monitor"].(*appsv1.StatefulSet)
		job := set["Job vda-schema"].(*batchv1.Job)
		for _, x := range []struct {
			program, name string
			selector      map[string]string
			pod           corev1.PodTemplateSpec
			claims        []corev1.PersistentVolumeClaim
		}{
			{"vda_portal", "portal", portal.Spec.Selector.MatchLabels, portal.Spec.Template, nil},
			{"vda_monitor", "monitor", monitor.Spec.Selector.MatchLabels, monitor.Spec.Template, monitor.Spec.VolumeClaimTemplates},
		} {
			for k, v := range x.selector {
				if x.pod.Labels[k] != v {
					t.Errorf("%s: the selector's %s=%s is not a label of its pods", x.name, k, v)
				}
			}
			service := set["Service vda-"+x.name].(*corev1.Service)
			budget := set["PodDisruptionBudget vda-"+x.name].(*policyv1.PodDisruptionBudget)
			if !maps.Equal(service.Spec.Selector, x.selector) || !maps.Equal(budget.Spec.Selector.MatchLabels, x.selector) {
				t.Errorf("%s: the service or the budget is of other pods", x.name)
			}
			pod := x.pod.Spec
			for _, c := range x.claims {
				pod.Volumes = append(pod.Volumes, corev1.Volume{Name: c.Name})
			}
			mounts(t, &pod)
			if scheme := pod.Containers[0].ReadinessProbe.HTTPGet.Scheme; (scheme == corev1.URISchemeHTTPS) != (name == "secured") {
				t.Errorf("%s, %s: probed by %s", name, x.name, scheme)
			}
			ownFlags(t, x.program, &pod)
			files(t, &pod)
		}
		ownFlags(t, "vda_db", &job.Spec.Template.Spec)
		files(t, &job.Spec.Template.Spec)
		if hook := job.Annotations["helm.sh/hook"]; !strings.Contains(hook, "pre-install") || !strings.Contains(hook, "pre-upgrade") {
			t.Errorf("the schema is made at %q", hook)
		}
		if got := monitor.Spec.ServiceName; set["Service "+got] == nil {
			t.Errorf("monitors have the names of a service %s, which is not there", got)
		}
	}
	set, err := render(t, "vda", secured())
	if err != nil {
		t.Fatal(err)
	}
	monitor := set["StatefulSet vda-monitor"].(*appsv1.StatefulSet)
	args := strings.Join(monitor.Spec.Template.Spec.Containers[0].Args, " ")
	for _, want := range []string{"--advertise=$(POD).vda-monitor.storage.svc:9620", "--config=/enrol/$(POD).yaml", "--keep-events=1000000",
		"--repair-after=30m", "--tls-dir=/identity/monitor"} {
		if !strings.Contains(args, want) {
			t.Errorf("monitors lack %s: %s", want, args)
		}
	}
	portal := set["Deployment vda-portal"].(*appsv1.Deployment).Spec.Template.Spec
	if got := portal.Containers[0].Image; got != "registry.example.com/vda/vda_portal:v1.0.0" {
		t.Errorf("the portal's image is %s", got)
	}
	args = strings.Join(portal.Containers[0].Args, "\n") + "\n"
	for _, want := range []string{"--oidc-issuer=https://login.example.com/realms/main", "--oidc-client-id=vda",
		"--oidc-role=storage-admins=admin", "--oidc-role=cn=all,dc=example=viewer", "--oidc-client-secret-file=/oidc-client/secret",
		"--oidc-ca-file=/oidc-ca/ca.crt", "--oidc-user-claim=sub", "--oidc-role-claim=groups", "--oidc-scopes=profile,email"} {
		if !strings.Contains(args, want+"\n") {
			t.Errorf("portals lack %s: %s", want, args)
		}
	}
	for _, secret := range []string{"vda-db", "vda-ca", "vda-web-tls", "vda-oidc"} {
		if !slices.ContainsFunc(portal.Volumes, func(v corev1.Volume) bool { return v.Secret != nil && v.Secret.SecretName == secret }) {
			t.Errorf("the portal does not have the secret %s", secret)
		}
	}
	// What the CA's key is needed for is the portal's alone.
	for _, v := range monitor.Spec.Template.Spec.Volumes {
		if v.Secret != nil && v.Secret.SecretName == "vda-ca" {
			t.Error("monitors have the CA's key")
		}
	}
}

// ownFlags checks that a pod's programs have the flags that they are given.
func ownFlags(t *testing.T, program string, pod *corev1.PodSpec) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(root, "docs/daemons", program+".md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if !strings.Contains(c.Image, "/"+program+":") {
			t.Errorf("%s runs the image %s", c.Name, c.Image)
		}
		for _, arg := range c.Args {
			name, value, _ := strings.Cut(arg, "=")
			if name != "--config" && !bytes.Contains(doc, []byte("`"+name+"`")) { // all programs have --config
				t.Errorf("%s has no flag %s", program, name)
			}
			// Each path is below a volume.
			if strings.HasPrefix(value, "/") && !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
				return strings.HasPrefix(value+"/", m.MountPath+"/")
			}) {
				t.Errorf("%s of %s is in no volume", arg, c.Name)
			}
		}
	}
}

// files checks that secrets are for the pod's group alone, which programs demand, that it is the
// group, and that nothing secret is on a command line or in the environment.
func files(t *testing.T, pod *corev1.PodSpec) {
	t.Helper()
	if s := pod.SecurityContext; s == nil || !*s.RunAsNonRoot || s.FSGroup == nil || *s.FSGroup != *s.RunAsGroup ||
		*pod.AutomountServiceAccountToken {
		t.Errorf("the pod's security context is %v", s)
	}
	for _, v := range pod.Volumes {
		if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440) {
			t.Errorf("the secret %s has the mode %v", v.Secret.SecretName, v.Secret.DefaultMode)
		}
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				t.Errorf("%s has a secret in $%s", c.Name, e.Name)
			}
		}
	}
}

// TestControlPlanesValuesAreChecked: what is missing, misspelt or does not go together is refused
// with its name.
func TestControlPlanesValuesAreChecked(t *testing.T) {
	db, ca := map[string]any{"secret": "vda-db"}, map[string]any{"caSecret": "vda-ca"}
	oidc := func(values map[string]any) map[string]any {
		return map[string]any{"webTokenSecret": "vda-web", "oidc": values}
	}
	for says, values := range map[string]map[string]any{
		"database":                           {},
		"replica'":                           {"database": db, "monitor": map[string]any{"replica": 2}},
		"heartbeat-missses":                  {"database": db, "monitor": map[string]any{"flags": map[string]any{"heartbeat-missses": 3}}},
		"logFormat":                          {"database": db, "logFormat": "xml"},
		"portal.webTokenSecret is required":  {"database": db},
		"tls.webSecret needs tls.caSecret":   {"database": db, "tls": map[string]any{"webSecret": "x"}},
		"monitor.enrolSecret needs":          {"database": db, "monitor": map[string]any{"enrolSecret": "x"}},
		"portal.webTokenSecret is of no use": {"database": db, "portal": map[string]any{"web": false, "webTokenSecret": "x"}},
		"portal.oidc.issuer needs":           {"database": db, "portal": oidc(map[string]any{"issuer": "https://x"})},
		"portal.oidc.issuer is required":     {"database": db, "tls": ca, "portal": oidc(map[string]any{"clientId": "x"})},
		"portal.oidc.clientId is required":   {"database": db, "tls": ca, "portal": oidc(map[string]any{"issuer": "https://x"})},
		"portal.oidc.roles is required": {"database": db, "tls": ca,
			"portal": oidc(map[string]any{"issuer": "https://x", "clientId": "y"})},
		"portal/oidc/roles/x": {"database": db, "tls": ca, "portal": oidc(map[string]any{"roles": map[string]any{"x": "king"}})},
		"portal/oidc/issuer":  {"database": db, "tls": ca, "portal": oidc(map[string]any{"issuer": "http://x"})},
		"database/secret":     {"database": map[string]any{"secret": "Not A Name"}},
	} {
		if _, err := render(t, "vda", values); err == nil || !strings.Contains(err.Error(), says) &&
			!strings.Contains(strings.ReplaceAll(err.Error(), ".", "/"), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
