{{/* Names, labels and the parts that all pods share. */}}

{{- define "embedmill.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that find pods again; they never change. Takes (list $ "component"). */}}
{{- define "embedmill.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ default $.Chart.Name $.Values.nameOverride }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of pods: nothing that changes with the chart alone, which would start them all anew. */}}
{{- define "embedmill.podLabels" -}}
{{- $ := index . 0 -}}
{{ include "embedmill.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: embedmill
{{- end -}}

{{- define "embedmill.labels" -}}
{{- $ := index . 0 -}}
{{ include "embedmill.podLabels" . }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "embedmill.serviceAccountName" -}}
{{- ternary (default (include "embedmill.fullname" .) .Values.serviceAccount.name) (default "default" .Values.serviceAccount.name) .Values.serviceAccount.create -}}
{{- end -}}

{{/* Takes (list $ "base"). */}}
{{- define "embedmill.image" -}}
{{- $ := index . 0 -}}
{{- $image := index $.Values.image (index . 1) -}}
{{- with $.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $.Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{- define "embedmill.apiPort" -}}8000{{- end -}}
{{- define "embedmill.healthPort" -}}8080{{- end -}}

{{/* One group of workers, completed by the defaults; its resources are its own as a whole. Takes (list $ $group). */}}
{{- define "embedmill.group" -}}
{{- $given := index . 1 -}}
{{- $group := mustMergeOverwrite (deepCopy (index . 0).Values.workerDefaults) (deepCopy $given) -}}
{{- if hasKey $given "resources" }}{{ $_ := set $group "resources" $given.resources }}{{ end -}}
{{- toYaml $group -}}
{{- end -}}

{{- define "embedmill.defaultModel" -}}
{{- if .Values.api.model -}}
{{ .Values.api.model }}
{{- else if .Values.workers -}}
{{ (include "embedmill.group" (list $ (first .Values.workers)) | fromYaml).model }}
{{- else -}}
{{ .Values.workerDefaults.model }}
{{- end -}}
{{- end -}}

{{/* What a pod is like whoever is in it. Takes (list $ $component), whose values say where it may run. */}}
{{- define "embedmill.pod" -}}
{{- $ := index . 0 -}}
{{- $own := index . 1 -}}
automountServiceAccountToken: false
# Else a Service named embedmill would set EMBEDMILL_PORT, which is a setting of ours.
enableServiceLinks: false
securityContext: {{- toYaml $.Values.podSecurityContext | nindent 2 }}
{{- with $.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Annotations of a component's pods. Takes (list $ $component $more), $more being what the chart itself adds. */}}
{{- define "embedmill.podAnnotations" -}}
{{- $found := merge (dict) (default dict (index . 1).podAnnotations) (index . 2) -}}
{{- with (index . 0).Values.restartedFor }}{{ $_ := set $found "embedmill/restarted-for" . }}{{ end -}}
{{- with $found }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Nodes may be emptied of pods whose volumes hold nothing that is not made again. */}}
{{- define "embedmill.evictable" -}}
cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes: data,tmp
{{- end -}}

{{/* Takes (list $own $selector): what was asked for, else over nodes as well as may be. */}}
{{- define "embedmill.spread" -}}
topologySpreadConstraints:
{{- if (index . 0).topologySpreadConstraints }}
{{- toYaml (index . 0).topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- index . 1 | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Takes (list $ "base" $component). */}}
{{- define "embedmill.container" -}}
{{- $ := index . 0 -}}
image: {{ include "embedmill.image" . | quote }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
securityContext: {{- toYaml $.Values.securityContext | nindent 2 }}
resources: {{- toYaml (index . 2).resources | nindent 2 }}
{{- end -}}

{{/* The Service's names, and those of the Ingress. */}}
{{- define "embedmill.hosts" -}}
{{- $name := printf "%s-api" (include "embedmill.fullname" .) -}}
{{- $hosts := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.%s" $name .Release.Namespace .Values.clusterDomain) -}}
{{- if .Values.api.ingress.enabled }}{{ range .Values.api.ingress.hosts }}{{ $hosts = append $hosts .host }}{{ end }}{{ end -}}
{{- concat $hosts .Values.api.hosts | uniq | join "," -}}
{{- end -}}
