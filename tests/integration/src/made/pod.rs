//! Pod templates for generated workloads.

use serde_json::{Value, json};

use crate::draw::Draw;

/// A template labelled with its workload's name. `restart` is the policy that its kind asks for.
pub fn template(draw: &mut Draw, name: &str, restart: Option<&str>) -> Value {
    let mut metadata = json!({"labels": {"app": name}});
    match draw.below(4) {
        0 => metadata["annotations"] = json!({"prometheus.io/scrape": "true", "empty": ""}),
        1 => metadata["labels"]["app.kubernetes.io/name"] = json!("x"),
        2 => metadata["annotations"] = Value::Null,
        _ => metadata["annotations"] = json!({}),
    }
    json!({"metadata": metadata, "spec": spec(draw, restart)})
}

fn spec(draw: &mut Draw, restart: Option<&str>) -> Value {
    let volumes = volumes(draw);
    let mounted = volumes.as_array().and_then(|list| list.first()).map(|volume| volume["name"].clone());
    let names = ["main", "proxy", "logs"];
    let containers: Vec<Value> = names[..1 + draw.below(3)].iter().map(|name| container(draw, name, mounted.as_ref())).collect();
    let mut spec = json!({"containers": containers});
    match draw.below(4) {
        0 => spec["initContainers"] = json!([bare(container(draw, "init", mounted.as_ref()))]),
        1 => {
            let mut sidecar = container(draw, "sidecar", None);
            sidecar["restartPolicy"] = json!("Always");
            spec["initContainers"] = json!([sidecar, bare(container(draw, "init", None))]);
        }
        2 => spec["initContainers"] = json!([]),
        _ => {}
    }
    if !volumes.is_null() || draw.below(2) == 0 {
        spec["volumes"] = volumes;
    }
    if let Some(restart) = restart {
        spec["restartPolicy"] = json!(restart);
    }
    security(draw, &mut spec);
    identity(draw, &mut spec);
    placement(draw, &mut spec);
    // The API server takes no kernel settings of namespaces that are the host's.
    if spec["hostNetwork"] == true || spec["hostIPC"] == true {
        spec["securityContext"].as_object_mut().map(|context| context.remove("sysctls"));
    }
    spec
}

fn security(draw: &mut Draw, spec: &mut Value) {
    let context = match draw.below(12) {
        0 => json!({}),
        1 => Value::Null,
        2 => json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}),
        3 => json!({"runAsNonRoot": false, "runAsGroup": 0}),
        4 => json!({"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "1024 65535"}]}),
        5 => json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        6 => json!({"seLinuxOptions": {"type": "container_t"}}),
        7 => json!({"seLinuxOptions": {"user": "root", "level": "s0"}}),
        8 => json!({"fsGroup": 0, "supplementalGroups": [0, 5]}),
        9 => json!({"seccompProfile": {"type": "Unconfined"}}),
        10 => json!({"runAsUser": 0, "appArmorProfile": {"type": "Unconfined"}}),
        _ => return,
    };
    spec["securityContext"] = context;
}

fn identity(draw: &mut Draw, spec: &mut Value) {
    match draw.below(6) {
        0 => spec["serviceAccountName"] = json!("robot"),
        1 => spec["serviceAccount"] = json!("robot"),
        2 => spec["serviceAccountName"] = json!(""),
        3 => spec["automountServiceAccountToken"] = json!(false),
        4 => spec["automountServiceAccountToken"] = json!(true),
        _ => {}
    }
    match draw.below(6) {
        0 => spec["hostNetwork"] = json!(true),
        1 => spec["hostNetwork"] = json!(false),
        2 => spec["hostPID"] = json!(true),
        3 => spec["hostIPC"] = json!(true),
        4 => spec["hostUsers"] = json!(true),
        _ => {}
    }
    match draw.below(8) {
        0 => spec["imagePullSecrets"] = json!([{"name": "pull"}]),
        1 => spec["enableServiceLinks"] = json!(false),
        2 => spec["terminationGracePeriodSeconds"] = json!(0),
        3 => spec["priorityClassName"] = json!("system-cluster-critical"),
        4 => spec["dnsPolicy"] = json!("Default"),
        5 => spec["hostAliases"] = json!([{"ip": "10.0.0.1", "hostnames": ["a"]}]),
        // The API server takes one of the two.
        6 if spec.get("hostPID").is_none() => spec["shareProcessNamespace"] = json!(true),
        _ => {}
    }
}

fn placement(draw: &mut Draw, spec: &mut Value) {
    match draw.below(6) {
        0 => spec["nodeSelector"] = json!({"kubernetes.io/os": "linux"}),
        1 => spec["nodeSelector"] = Value::Null,
        2 => spec["tolerations"] = json!([{"key": "gpu", "operator": "Exists"}]),
        3 => spec["tolerations"] = json!([{"operator": "Exists"}]),
        4 => {
            let spread = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
            spec["topologySpreadConstraints"] = json!([spread]);
        }
        _ => {}
    }
}

fn volumes(draw: &mut Draw) -> Value {
    let source = match draw.below(10) {
        0 => return Value::Null,
        1 => json!({"name": "data"}),
        2 => json!({"name": "data", "emptyDir": {}}),
        3 => json!({"name": "data", "hostPath": {"path": "/var/run"}}),
        4 => json!({"name": "data", "configMap": {"name": "settings", "optional": true}}),
        5 => json!({"name": "data", "secret": {"secretName": "keys", "optional": true}}),
        6 => {
            json!({"name": "data", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}})
        }
        7 => json!({"name": "data", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),
        8 => json!({"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}}),
        _ => {
            let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
            json!({"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}})
        }
    };
    json!([source, {"name": "scratch", "emptyDir": {}}])
}

/// Without what an init container may not have.
fn bare(mut container: Value) -> Value {
    if let Value::Object(fields) = &mut container {
        for key in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            fields.remove(key);
        }
    }
    container
}

fn container(draw: &mut Draw, name: &str, volume: Option<&Value>) -> Value {
    let images =
        ["nginx", "nginx:latest", "registry.example.com/team/app:1.4.2", "registry.example.com:5000/app", "ghcr.io/a/b:v1"];
    let mut container = json!({"name": name, "image": images[draw.below(images.len())]});
    if let Some(volume) = volume {
        let mut mount = json!({"name": volume, "mountPath": "/data"});
        if draw.below(3) == 0 {
            mount["readOnly"] = json!(draw.below(2) == 0);
        }
        container["volumeMounts"] = json!([mount]);
    }
    resources(draw, &mut container);
    context(draw, &mut container);
    ports(draw, name, &mut container);
    probes(draw, &mut container);
    match draw.below(6) {
        0 => container["env"] = json!([{"name": "A", "value": ""}, {"name": "B"}]),
        1 => container["env"] = json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        2 => {
            container["env"] =
                json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a", "optional": true}}}])
        }
        3 => container["imagePullPolicy"] = json!("Never"),
        4 => container["lifecycle"] = json!({"preStop": {"httpGet": {"port": 8080}}}),
        _ => container["tty"] = json!(false),
    }
    container
}

fn resources(draw: &mut Draw, container: &mut Value) {
    container["resources"] = match draw.below(10) {
        0 => return,
        1 => json!({}),
        2 => Value::Null,
        3 => json!({"limits": {"cpu": "1", "memory": "256Mi"}}),
        4 => json!({"requests": {"cpu": "0.5", "memory": "1024Mi"}}),
        5 => json!({"requests": {"cpu": "100m"}, "limits": {"cpu": 1, "memory": "1G"}}),
        6 => json!({"limits": {"memory": "1Gi", "nvidia.com/gpu": 1}}),
        7 => json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2", "cpu": "2000m"}}),
        8 => json!({"limits": null, "requests": {"memory": "64Mi"}}),
        _ => json!({"requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "1Gi"}, "limits": {"memory": "256Mi"}}),
    };
}

fn context(draw: &mut Draw, container: &mut Value) {
    container["securityContext"] = match draw.below(14) {
        0 => return,
        1 => Value::Null,
        2 => json!({}),
        3 => json!({
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        }),
        4 => json!({"privileged": true}),
        5 => json!({"privileged": false, "allowPrivilegeEscalation": true}),
        6 => json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
        7 => json!({"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}}),
        8 => json!({"capabilities": {"drop": []}}),
        9 => json!({"runAsUser": 0, "procMount": "Default"}),
        10 => json!({"seLinuxOptions": {"type": "spc_t"}}),
        11 => json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}),
        12 => json!({"appArmorProfile": {"type": "RuntimeDefault"}, "readOnlyRootFilesystem": false}),
        _ => json!({"runAsNonRoot": false, "windowsOptions": {"hostProcess": false}}),
    };
}

fn ports(draw: &mut Draw, name: &str, container: &mut Value) {
    // Another for each container: on the host no two may have the same.
    let number = 8000 + name.bytes().map(u32::from).sum::<u32>();
    container["ports"] = match draw.below(6) {
        0 => json!([{"containerPort": number}]),
        1 => json!([{"containerPort": number, "hostPort": 0, "name": "http"}]),
        2 => json!([{"containerPort": number, "hostPort": number, "protocol": "UDP"}]),
        3 => json!([]),
        _ => return,
    };
}

fn probes(draw: &mut Draw, container: &mut Value) {
    match draw.below(6) {
        0 => container["livenessProbe"] = json!({"httpGet": {"port": 8080}}),
        1 => container["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 0}),
        2 => container["startupProbe"] = json!({"exec": {"command": ["true"]}, "failureThreshold": 30}),
        3 => container["readinessProbe"] = json!({"grpc": {"port": 9000}, "timeoutSeconds": 5}),
        _ => {}
    }
}
