{{/* What processes are told by their environment. What extraEnv names is left to it: no name may stand there twice. */}}

{{/* Takes (list $yaml $extraEnv), $yaml being a list of variables. */}}
{{- define "embedmill.environment" -}}
{{- $extra := default list (index . 1) -}}
{{- $said := list -}}
{{- range $extra }}{{ $said = append $said .name }}{{ end -}}
{{- $kept := list -}}
{{- range (index . 0 | fromYamlArray) }}{{ if not (has .name $said) }}{{ $kept = append $kept . }}{{ end }}{{ end -}}
{{- concat $kept $extra | toYaml -}}
{{- end -}}

{{/* Where the servers are, and what all must agree on. Takes (list $ $keyOfRedis $keyOfDatabase), as what follows does. */}}
{{- define "embedmill.env" -}}
{{- $redis := index . 1 -}}
{{- $database := index . 2 -}}
{{- with index . 0 -}}
{{- if .Values.servers.asFiles }}
- name: EMBEDMILL_REDIS_URL_FILE
  value: {{ include "embedmill.secretsFolder" . }}/servers/redis-url
- name: EMBEDMILL_DATABASE_URL_FILE
  value: {{ include "embedmill.secretsFolder" . }}/servers/database-url
{{- else }}
- name: EMBEDMILL_REDIS_URL
  valueFrom: { secretKeyRef: { name: {{ .Values.servers.existingSecret }}, key: {{ $redis }} } }
- name: EMBEDMILL_DATABASE_URL
  valueFrom: { secretKeyRef: { name: {{ .Values.servers.existingSecret }}, key: {{ $database }} } }
{{- end }}
- name: EMBEDMILL_DATA_DIR
  value: /data
- name: EMBEDMILL_LOG_LEVEL
  value: {{ .Values.settings.logLevel }}
- name: EMBEDMILL_MAX_TEXT_BYTES
  value: {{ int64 .Values.settings.maxTextBytes | quote }}
{{- if not (kindIs "invalid" .Values.settings.keepDays) }}
- name: EMBEDMILL_KEEP_DAYS
  value: {{ .Values.settings.keepDays | toString | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.settings.keepTextsDays) }}
- name: EMBEDMILL_KEEP_TEXTS_DAYS
  value: {{ .Values.settings.keepTextsDays | toString | quote }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "embedmill.secretsFolder" -}}/run/secrets/embedmill{{- end -}}

{{/* The servers' URLs as files; see "embedmill.env". Optional, since `extraEnv` may name others: the program tells of a file
     that it lacks. No volume has a name that a volume of `extraVolumes` may well have. */}}
{{- define "embedmill.serversVolume" -}}
{{- if (index . 0).Values.servers.asFiles }}
- name: embedmill-servers
  secret:
    secretName: {{ (index . 0).Values.servers.existingSecret }}
    optional: true
    items:
      - { key: {{ index . 1 }}, path: redis-url }
      - { key: {{ index . 2 }}, path: database-url }
{{- end }}
{{- end -}}

{{- define "embedmill.serversMount" -}}
{{- if .Values.servers.asFiles }}
- { name: embedmill-servers, mountPath: {{ include "embedmill.secretsFolder" . }}/servers, readOnly: true }
{{- end }}
{{- end -}}

{{/* What api, workers and reconcilers tell of their work, and to whom. */}}
{{- define "embedmill.tracesEnv" -}}
{{- with .Values.settings.otlpEndpoint }}
{{- $_ := include "embedmill.tracesPort" . }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The entry that workers and the reconciler have Redis' URL from. */}}
{{- define "embedmill.workerRedis" -}}
{{ default .Values.servers.redisKey .Values.servers.workerRedisKey }}
{{- end -}}

{{/* The same for the database. */}}
{{- define "embedmill.workerDatabase" -}}
{{ default .Values.servers.databaseKey .Values.servers.workerDatabaseKey }}
{{- end -}}

{{/* The entry that the migration has the database's URL from. */}}
{{- define "embedmill.ownerDatabase" -}}
{{ default .Values.servers.databaseKey .Values.servers.ownerDatabaseKey }}
{{- end -}}

{{- define "embedmill.apiEnv" -}}
{{ include "embedmill.env" (list . .Values.servers.redisKey .Values.servers.databaseKey) }}
{{- include "embedmill.tracesEnv" . }}
- name: EMBEDMILL_MODEL
  value: {{ include "embedmill.defaultModel" . | quote }}
# Files that are made before they are sent.
- name: TMPDIR
  value: /data
- name: EMBEDMILL_AUTH
  value: {{ .Values.api.auth }}
{{- if eq .Values.api.auth "none" }}
- name: EMBEDMILL_OPEN_TO_ALL
  value: "true"
{{- end }}
- name: EMBEDMILL_HOSTS
  value: {{ include "embedmill.hosts" . | quote }}
{{- with .Values.api.webhookHosts }}
- name: EMBEDMILL_WEBHOOK_HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- end -}}

{{/* Whether a group's pods are given GPUs, or parts of them. Takes the group. */}}
{{- define "embedmill.hasGpus" -}}
{{- range $name, $count := (default dict .resources).limits }}{{ if hasPrefix "nvidia.com/" $name }}yes{{ end }}{{ end -}}
{{- end -}}

{{/* Takes (list $ $group). */}}
{{- define "embedmill.workerEnv" -}}
{{- $ := index . 0 -}}
{{- with index . 1 -}}
{{ include "embedmill.env" (list $ (include "embedmill.workerRedis" $) (include "embedmill.workerDatabase" $)) }}
{{- include "embedmill.tracesEnv" $ }}
- name: EMBEDMILL_HEALTH_HOST
  value: {{ $.Values.listen | quote }}
- name: EMBEDMILL_MODEL
  value: {{ .model | quote }}
{{- if .revision }}
- name: EMBEDMILL_REVISION
  value: {{ .revision | quote }}
{{- end }}
- name: EMBEDMILL_DTYPE
  value: {{ .dtype }}
{{- if .backend }}
- name: EMBEDMILL_BACKEND
  value: {{ .backend }}
{{- end }}
- name: EMBEDMILL_DEVICES
  # A node whose driver does not reach into the pod must not serve on its CPU unnoticed.
  value: {{ if and (include "embedmill.hasGpus" .) (eq .devices "auto") }}gpus{{ else }}{{ .devices | quote }}{{ end }}
{{- if not (or (include "embedmill.hasGpus" .) .resources.claims) }}
# Where NVIDIA's runtime is the nodes' own, a pod without a limit would else see GPUs that belong to others.
- name: NVIDIA_VISIBLE_DEVICES
  value: void
{{- end }}
{{- if .tokenBudget }}
- name: EMBEDMILL_TOKEN_BUDGET
  value: {{ int64 .tokenBudget | quote }}
{{- end }}
- name: EMBEDMILL_STOP_GRACE
  value: {{ int .stopGraceSeconds | quote }}
- name: EMBEDMILL_LEASE_SECONDS
  value: {{ int .leaseSeconds | quote }}
- name: EMBEDMILL_MAX_MEMORY_GROWTH
  value: {{ int64 .maxMemoryGrowth | quote }}
{{- if .models.existingClaim }}
# Models are there already: no hub is asked.
- name: HF_HUB_OFFLINE
  value: "1"
{{- end }}
{{- if and .hub.existingSecret $.Values.servers.asFiles }}
- name: HF_TOKEN_PATH
  value: {{ include "embedmill.secretsFolder" $ }}/hub/token
{{- else if .hub.existingSecret }}
- name: HF_TOKEN
  valueFrom: { secretKeyRef: { name: {{ .hub.existingSecret }}, key: {{ .hub.tokenKey }} } }
{{- end }}
{{- end -}}
{{- end -}}

{{- define "embedmill.reconcilerEnv" -}}
{{ include "embedmill.env" (list . (include "embedmill.workerRedis" .) (include "embedmill.workerDatabase" .)) }}
{{- include "embedmill.tracesEnv" . }}
- name: EMBEDMILL_HEALTH_HOST
  value: {{ .Values.listen | quote }}
{{- end -}}

{{- define "embedmill.migrationEnv" -}}
{{ include "embedmill.env" (list . .Values.servers.redisKey (include "embedmill.ownerDatabase" .)) }}
{{- with .Values.servers.apiRole }}
- name: EMBEDMILL_API_ROLE
  value: {{ . | quote }}
{{- end }}
{{- with .Values.servers.workerRole }}
- name: EMBEDMILL_WORKER_ROLE
  value: {{ . | quote }}
{{- end }}
{{- end -}}
