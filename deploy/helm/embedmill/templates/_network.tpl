{{/* Rules of policies; all take .Values.networkPolicy. */}}

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

{{- define "embedmill.serversEgress" }}
- ports:
    {{- range .dns.ports }}
    - { protocol: UDP, port: {{ int . }} }
    - { protocol: TCP, port: {{ int . }} }
    {{- end }}
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
