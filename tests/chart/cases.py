"""The installations that are rendered and checked: what an operator may ask for, one thing at a time and together."""

from __future__ import annotations

from typing import Any

GPU = {
    "name": "bge-h100",
    "model": "BAAI/bge-base-en-v1.5",
    "revision": "a5beb1e3",
    "dtype": "bfloat16",
    "devices": "auto",
    "tokenBudget": 65536,
    "runtimeClassName": "nvidia",
    "priorityClassName": "batch",
    "resources": {
        "requests": {"cpu": "4", "memory": "8Gi"},
        "limits": {"nvidia.com/gpu": 1, "memory": "16Gi"},
    },
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
SCALED = GPU | {"scaling": {"enabled": True, "maxReplicas": 8, "tokensPerReplica": 40_000_000}}
CLAIMS = {
    "name": "shelf",
    "model": "/models/e5-base",
    "dtype": "int8",
    "backend": "openvino",
    "devices": "cpu",
    "data": {"existingClaim": "mill-data"},
    "models": {"existingClaim": "model-shelf"},
    "hub": {"existingSecret": "hub", "tokenKey": "token"},
    "replicas": 3,
    "maxSurge": "25%",
    "maxUnavailable": 0,
    "podDisruptionBudget": {"enabled": False},
    "podLabels": {"team": "search"},
    "podAnnotations": {"example.org/why": "int8"},
    "topologySpreadConstraints": [
        {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "extraEnv": [{"name": "OMP_NUM_THREADS", "value": "4"}],
    "extraVolumes": [{"name": "ca", "secret": {"secretName": "database-ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
}
INGRESS = {
    "enabled": True,
    "className": "nginx",
    "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "0"},
    "hosts": [
        {"host": "embed.example.org"},
        {"host": "v.example.org", "paths": [{"path": "/v1", "pathType": "Prefix"}]},
    ],
    "tls": [{"secretName": "embed-tls", "hosts": ["embed.example.org"]}],
}
#: The servers of a fleet in which each side has a role of its own.
ROLES = {
    "workerRedisKey": "worker-redis-url",
    "workerDatabaseKey": "worker-database-url",
    "ownerDatabaseKey": "owner-database-url",
    "apiRole": "embedmill_api",
    "workerRole": "embedmill_worker",
}
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}

CASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "one model on GPUs": {"workers": [GPU]},
    "several models": {"workers": [GPU, CLAIMS, {"name": "cpu", "devices": "cpu", "dtype": "float32"}]},
    "scaled by the api, with keys": {"workers": [SCALED, {"name": "cpu"}]},
    "scaled by the api, without keys": {"workers": [SCALED], "api": {"auth": "none", "hosts": ["mill.internal"]}},
    "scaled by Prometheus": {
        "workers": [SCALED],
        "keda": {
            "source": "prometheus",
            "prometheus": {"serverAddress": "http://prometheus.monitoring:9090", "matchers": 'namespace="embed"'},
        },
    },
    "an Ingress": {
        "api": {"ingress": INGRESS, "replicas": 3, "webhookHosts": ["hooks.internal"], "model": GPU["model"]}
    },
    "a role of its own for each side": {"servers": ROLES},
    "URLs in the environment": {"servers": ROLES | {"asFiles": False}},
    "traces to a collector": {
        "settings": {"otlpEndpoint": "http://collector.monitoring:4318"},
        "networkPolicy": {"traces": {"to": [PEER], "ports": [14318]}},
    },
    "no network policy": {"networkPolicy": {"enabled": False}},
    "a tight network policy": {
        "networkPolicy": {
            "apiFrom": [PEER],
            "redis": {"to": [PEER], "ports": [6379, 26379]},
            "database": {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [6432]},
            "hub": {"enabled": False},
            "webhooks": {"enabled": False},
            "extraEgress": [{"to": [PEER], "ports": [{"protocol": "TCP", "port": 4317}]}],
        }
    },
    "watched by Prometheus": {
        "monitoring": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "podMonitor": {"enabled": True},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Embedding"}},
        }
    },
    "a cluster of IPv6, with sidecars": {
        "listen": "::",
        "clusterDomain": "mill.internal",
        "restartedFor": "the database's new password",
        "reconciler": {"podLabels": {"team": "search"}, "podAnnotations": {"note": "mill"}},
        "migration": {"podAnnotations": {"sidecar.istio.io/inject": "false"}, "podLabels": {"team": "search"}},
        "api": {"auth": "none", "webhookHosts": ["hooks.internal"], "podAnnotations": {"note": "mill"}},
        "networkPolicy": {"webhooks": {"to": [PEER], "ports": [80, 8443]}, "dns": {"ports": [53]}},
    },
    "the service alone": {
        "settings": {"keepDays": "forever"},
        "workers": [],
        "reconciler": {"enabled": False},
        "migration": {"enabled": False},
        "serviceAccount": {"create": False},
        "api": {"podDisruptionBudget": {"enabled": False}},
    },
    "images by digest": {
        "image": {
            "registry": "registry.example.org/team/",
            "pullSecrets": [{"name": "registry"}],
            "base": {"repository": "embedmill-base", "digest": "sha256:" + "0" * 64},
            "worker": {"repository": "embedmill-worker", "tag": "0.1.0-cu128"},
        },
        "settings": {"keepDays": 7.5, "keepTextsDays": 1, "maxTextBytes": 20_000_000},
        "servers": {"existingSecret": "ours", "workerRedisKey": "worker-redis-url"},
        "fullnameOverride": "a-name-that-is-longer-than-what-kubernetes-would-take",
    },
}
CASES["all at once"] = {
    "workers": [SCALED, CLAIMS],
    "api": {"ingress": INGRESS},
    "networkPolicy": CASES["a tight network policy"]["networkPolicy"],
    "monitoring": CASES["watched by Prometheus"]["monitoring"],
} | CASES["images by digest"]
CASES["all at once"]["servers"] |= CASES["a role of its own for each side"]["servers"]

#: Values that are refused, and a word of the reason.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt name": ({"api": {"replica": 3}}, "replica"),
    "a password among the values": ({"servers": {"redisUrl": "redis://:secret@host"}}, "redisUrl"),
    "a URL through the back door": (
        {"api": {"extraEnv": [{"name": "EMBEDMILL_DATABASE_URL", "value": "postgresql://u:p@h/d"}]}},
        "extraEnv",
    ),
    "a collector with a password": ({"settings": {"otlpEndpoint": "https://u:p@collector"}}, "otlpEndpoint"),
    "a collector at a port too high": ({"settings": {"otlpEndpoint": "http://collector:99999"}}, "99999.*1 to 65535"),
    "a collector at no port": (
        {"settings": {"otlpEndpoint": "http://collector:0"}, "networkPolicy": {"enabled": False}},
        "otlpEndpoint.*1 to 65535",
    ),
    "no Secret for the servers": ({"servers": {"existingSecret": ""}}, "existingSecret"),
    "a precision that is none": ({"workers": [{"name": "cpu", "dtype": "float8"}]}, "dtype"),
    "a group without a name": ({"workers": [{"devices": "cpu"}]}, "name"),
    "two groups of one name": ({"workers": [{"name": "cpu"}, {"name": "cpu"}]}, "cpu"),
    "a name that no pod may have": ({"workers": [{"name": "GPU_1"}]}, "name.*not match pattern"),
    "more pods at least than at most": (
        {"workers": [{"name": "cpu", "scaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}]},
        "minReplicas",
    ),
    "Prometheus nowhere": (
        {"workers": [{"name": "cpu", "scaling": {"enabled": True}}], "keda": {"source": "prometheus"}},
        "serverAddress",
    ),
    "an Ingress without a host": ({"api": {"ingress": {"enabled": True}}}, "hosts"),
    "no api at all": ({"api": {"replicas": 0}}, "replicas"),
    "an image by half a digest": ({"image": {"base": {"repository": "x", "digest": "sha256:12"}}}, "digest"),
}
