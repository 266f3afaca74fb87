{{- define "vda.labels" -}}
app.kubernetes.io/name: vda
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The image of a program: list . "vda_portal". */}}
{{- define "vda.image" -}}
{{- $top := index . 0 -}}
{{- with $top.Values.image.registry }}{{ . }}/{{ end -}}
{{ $top.Values.image.repository }}/{{ index . 1 }}:{{ $top.Values.image.tag | default $top.Chart.AppVersion }}
{{- end }}

{{- define "vda.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Of pods: nobody, and files of secrets for the group alone, as the programs demand. */}}
{{- define "vda.nobody" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "vda.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "vda.apart" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app.kubernetes.io/instance: {{ index . 0 }}
            app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* A program of which the database does not answer is not restarted: it goes on by itself. */}}
{{- define "vda.probes" -}}
livenessProbe:
  tcpSocket: {port: vda}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /healthz, port: vda, scheme: {{ ternary "HTTPS" "HTTP" (ne .Values.tls.caSecret "") }}}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "vda.database" -}}
- name: database
  secret:
    secretName: {{ .Values.database.secret }}
    defaultMode: 0440
    items: [{key: {{ .Values.database.key }}, path: uri}]
{{- end }}

{{- define "vda.placed" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What does not go together, said before anything is installed. */}}
{{- define "vda.check" -}}
{{- if and .Values.tls.webSecret (not .Values.tls.caSecret) }}
{{- fail "tls.webSecret needs tls.caSecret: a plain cluster has no TLS" }}
{{- end }}
{{- if and .Values.monitor.enrolSecret (not .Values.tls.caSecret) }}
{{- fail "monitor.enrolSecret needs tls.caSecret: there is nobody to enrol with" }}
{{- end }}
{{- if and .Values.portal.web (not .Values.tls.caSecret) (not .Values.portal.webTokenSecret) }}
{{- fail "portal.webTokenSecret is required: in a plain cluster web pages and REST ask for one token, the same of all portals; or portal.web false" }}
{{- end }}
{{- with .Values.portal.oidc }}
{{- if and .issuer (not $.Values.tls.caSecret) }}
{{- fail "portal.oidc.issuer needs tls.caSecret: a plain cluster takes no logins" }}
{{- end }}
{{- if and .issuer (not .clientId) }}
{{- fail "portal.oidc.clientId is required: what the issuer knows this cluster by" }}
{{- end }}
{{- if and .issuer (not .roles) }}
{{- fail "portal.oidc.roles is required: without one, nobody may do anything" }}
{{- end }}
{{- if and (not .issuer) (or .clientId .clientSecret .caConfigMap .roles) }}
{{- fail "portal.oidc.issuer is required: the other values of portal.oidc say how it is used" }}
{{- end }}
{{- end }}
{{- if and .Values.portal.webTokenSecret (not .Values.portal.web) }}
{{- fail "portal.webTokenSecret is of no use with portal.web false: give one of them" }}
{{- end }}
{{- end }}
