//! The controls of the baseline standard (Kubernetes documentation, *Pod Security Standards*).

use super::{
    Check, Found, Level,
    pod::{Keys, Pod, shown, texts},
};
use crate::{facts::at_key, path::Path};
use serde_json::Value;

const fn check(control: &'static str, since: u32, is_latest: bool, breaches: fn(&Pod<'_>, &mut Found)) -> Check {
    Check { control, level: Level::Baseline, since, is_latest, breaches }
}

pub const CHECKS: &[Check] = &[
    check("HostProcess", 0, true, |pod, found| {
        everywhere(pod, found, &["windowsOptions", "hostProcess"], is_set, "must not be true")
    }),
    check("Host Namespaces", 0, true, host_namespaces),
    check("Privileged Containers", 0, true, |pod, found| {
        in_containers(pod, found, &["privileged"], is_set, "must not be true");
    }),
    check("Capabilities", 0, true, capabilities),
    check("HostPath Volumes", 0, true, |pod, found| {
        let volumes = at_key(pod.spec, "volumes").and_then(Value::as_array).into_iter().flatten();
        for (index, volume) in volumes.enumerate() {
            if at_key(volume, "hostPath").is_some_and(|path| !path.is_null()) {
                found.add("is forbidden", Path::of_keys("spec.volumes").index(index).key("hostPath"), None, Vec::new());
            }
        }
    }),
    check("Host Ports", 0, true, |pod, found| {
        for container in pod.containers() {
            let ports = at_key(container.value, "ports").and_then(Value::as_array).into_iter().flatten();
            for (index, port) in ports.enumerate() {
                if let Some(port) = at_key(port, "hostPort").and_then(Value::as_f64).filter(|port| *port != 0.0) {
                    let path = container.path().key("ports").index(index).key("hostPort");
                    found.add("is forbidden", path, Some(container.name), vec![port.to_string()]);
                }
            }
        }
    }),
    check("Host Probes / Lifecycle Hooks", 34, true, host_probes),
    check("AppArmor", 0, true, |pod, found| {
        everywhere(pod, found, &["appArmorProfile", "type"], is_no_profile, PROFILES);
        annotations(pod, found, "container.apparmor.security.beta.kubernetes.io/", |value| {
            value.is_empty() || value == "runtime/default" || value.starts_with("localhost/")
        });
    }),
    check("SELinux", 0, false, |pod, found| se_linux(pod, found, &SE_LINUX_TYPES[..3])),
    check("SELinux", 31, true, |pod, found| se_linux(pod, found, &SE_LINUX_TYPES)),
    check("/proc Mount Type", 0, true, |pod, found| {
        if !pod.has_user_namespace() {
            in_containers(pod, found, &["procMount"], |value| value != "Default", "must be Default");
        }
    }),
    check("Seccomp", 0, false, |pod, found| {
        let is_allowed = |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
        annotations(pod, found, "seccomp.security.alpha.kubernetes.io/pod", is_allowed);
        annotations(pod, found, "container.seccomp.security.alpha.kubernetes.io/", is_allowed);
    }),
    check("Seccomp", 19, true, |pod, found| everywhere(pod, found, &["seccompProfile", "type"], is_no_profile, PROFILES)),
    check("Sysctls", 0, false, |pod, found| sysctls(pod, found, &SYSCTLS[..5])),
    check("Sysctls", 27, false, |pod, found| sysctls(pod, found, &SYSCTLS[..6])),
    check("Sysctls", 29, false, |pod, found| sysctls(pod, found, &SYSCTLS[..10])),
    check("Sysctls", 32, true, |pod, found| sysctls(pod, found, &SYSCTLS)),
];

pub const PROFILES: &str = "must be RuntimeDefault or Localhost";

const SE_LINUX_TYPES: [&str; 4] = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// In the order in which they were allowed.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub fn is_set(value: &Value) -> bool {
    value == &Value::Bool(true)
}

pub fn is_no_profile(value: &Value) -> bool {
    value != "RuntimeDefault" && value != "Localhost"
}

/// A field of every container.
pub fn in_containers(pod: &Pod<'_>, found: &mut Found, keys: Keys, is_bad: impl Fn(&Value) -> bool, reason: &'static str) {
    for container in pod.containers() {
        if let Some(value) = container.security(keys).filter(|value| is_bad(value)) {
            found.add(reason, container.security_path(keys), Some(container.name), vec![shown(value)]);
        }
    }
}

/// A field of the Pod and of every container.
pub fn everywhere(pod: &Pod<'_>, found: &mut Found, keys: Keys, is_bad: impl Fn(&Value) -> bool, reason: &'static str) {
    if let Some(value) = pod.security(keys).filter(|value| is_bad(value)) {
        found.add(reason, pod.security_path(keys), None, vec![shown(value)]);
    }
    in_containers(pod, found, keys, is_bad, reason);
}

fn annotations(pod: &Pod<'_>, found: &mut Found, prefix: &str, is_allowed: impl Fn(&str) -> bool) {
    let annotations = at_key(pod.metadata, "annotations").and_then(Value::as_object).into_iter().flatten();
    for (key, value) in annotations.filter(|(key, _)| key.starts_with(prefix)) {
        let value = value.as_str().unwrap_or_default();
        if !is_allowed(value) {
            found.add("names a forbidden profile", Path::of_keys("metadata.annotations").key(key), None, vec![value.to_owned()]);
        }
    }
}

fn host_namespaces(pod: &Pod<'_>, found: &mut Found) {
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if at_key(pod.spec, key).is_some_and(is_set) {
            found.add("must not be true", Path::of_keys("spec").key(key), None, vec!["true".to_owned()]);
        }
    }
}

fn capabilities(pod: &Pod<'_>, found: &mut Found) {
    for container in pod.containers() {
        let added = texts(container.security(&["capabilities", "add"])).filter(|name| !CAPABILITIES.contains(name));
        let added: Vec<String> = added.map(str::to_owned).collect();
        if !added.is_empty() {
            found.add("adds what is forbidden", container.security_path(&["capabilities", "add"]), Some(container.name), added);
        }
    }
}

fn host_probes(pod: &Pod<'_>, found: &mut Found) {
    let handlers =
        [&["livenessProbe"][..], &["readinessProbe"], &["startupProbe"], &["lifecycle", "postStart"], &["lifecycle", "preStop"]];
    for container in pod.containers() {
        for handler in handlers {
            for probe in ["httpGet", "tcpSocket"] {
                let keys = handler.iter().chain([&probe, &"host"]);
                let host = keys.clone().try_fold(container.value, |value, key| at_key(value, key)).and_then(Value::as_str);
                if let Some(host) = host.filter(|host| !host.is_empty()) {
                    let path = keys.fold(container.path(), |path, key| path.key(key));
                    found.add("is forbidden", path, Some(container.name), vec![host.to_owned()]);
                }
            }
        }
    }
}

fn se_linux(pod: &Pod<'_>, found: &mut Found, types: &[&str]) {
    let is_bad_type = |value: &Value| value.as_str().is_none_or(|value| !value.is_empty() && !types.contains(&value));
    everywhere(pod, found, &["seLinuxOptions", "type"], is_bad_type, "is a forbidden type");
    for keys in [&["seLinuxOptions", "user"], &["seLinuxOptions", "role"]] {
        everywhere(pod, found, keys, |value| value != "", "must not be set");
    }
}

fn sysctls(pod: &Pod<'_>, found: &mut Found, allowed: &[&str]) {
    let listed = pod.security(&["sysctls"]).and_then(Value::as_array).into_iter().flatten();
    for (index, sysctl) in listed.enumerate() {
        let name = sysctl.get("name").and_then(Value::as_str).unwrap_or_default();
        if !allowed.contains(&name) {
            let path = pod.security_path(&["sysctls"]).index(index).key("name");
            found.add("is forbidden", path, None, vec![name.to_owned()]);
        }
    }
}
