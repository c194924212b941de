{{/* Rules of policies; all but those of traces take .Values.networkPolicy. */}}

{{/* Figures for Prometheus; the node's own probes are always let in. */}}
{{- define "embedmill.figures" }}
- ports: [{ protocol: TCP, port: health }]
  from:
    - namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: {{ .monitoringNamespace }} } }
{{- end }}

{{- define "embedmill.publicHttps" }}
- to:
    - ipBlock: { cidr: 0.0.0.0/0, except: {{ toJson .privateRanges }} }
    - ipBlock: { cidr: "::/0", except: {{ toJson .privateRanges6 }} }
  ports: [{ protocol: TCP, port: 443 }]
{{- end }}

{{- define "embedmill.dnsEgress" }}
- ports:
    {{- range .dns.ports }}
    - { protocol: UDP, port: {{ int . }} }
    - { protocol: TCP, port: {{ int . }} }
    {{- end }}
{{- end }}

{{- define "embedmill.serversEgress" }}
{{- include "embedmill.dnsEgress" . }}
{{- range list .redis .database }}
- ports:
    {{- range .ports }}
    - { protocol: TCP, port: {{ int . }} }
    {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The port of the collector's address, which it takes. */}}
{{- define "embedmill.tracesPort" -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- if or (lt (int $port) 1) (gt (int $port) 65535) -}}
{{- fail (printf "settings.otlpEndpoint: %s has the port %s, and ports are 1 to 65535" . $port) -}}
{{- end -}}
{{- $port -}}
{{- end -}}

{{/* The collector of traces: at the ports that were said, else at that of its address. Takes $. */}}
{{- define "embedmill.tracesEgress" }}
{{- with .Values.settings.otlpEndpoint }}
- ports:
    {{- range default (list (include "embedmill.tracesPort" .)) $.Values.networkPolicy.traces.ports }}
    - { protocol: TCP, port: {{ int . }} }
    {{- end }}
  {{- with $.Values.networkPolicy.traces.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
