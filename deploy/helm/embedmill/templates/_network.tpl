{{/* Rules of egress; both take .Values.networkPolicy. */}}

{{- define "embedmill.publicHttps" }}
- to:
    - ipBlock: { cidr: 0.0.0.0/0, except: {{ toJson .privateRanges }} }
  ports: [{ protocol: TCP, port: 443 }]
{{- end }}

{{- define "embedmill.serversEgress" }}
- ports: [{ protocol: UDP, port: 53 }, { protocol: TCP, port: 53 }]
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
