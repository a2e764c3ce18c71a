//! What the restricted standard asks beyond the baseline.

use super::{
    Check, Found, Level,
    baseline::{PROFILES, everywhere, is_no_profile},
    pod::{Keys, Pod, texts},
};
use crate::{facts::at_key, path::Path};
use serde_json::Value;

const fn check(control: &'static str, since: u32, is_latest: bool, breaches: fn(&Pod<'_>, &mut Found)) -> Check {
    Check { control, level: Level::Restricted, since, is_latest, breaches }
}

pub const CHECKS: &[Check] = &[
    check("Volume Types", 0, true, volume_types),
    check("Privilege Escalation", 8, false, privilege_escalation),
    check("Privilege Escalation", 25, true, |pod, found| unless_windows(pod, found, privilege_escalation)),
    check("Running as Non-root", 0, true, |pod, found| {
        if !pod.has_user_namespace() {
            set_somewhere(pod, found, &["runAsNonRoot"], |value| value != &Value::Bool(true), "must be true");
        }
    }),
    check("Running as Non-root user", 23, true, |pod, found| {
        if !pod.has_user_namespace() {
            everywhere(pod, found, &["runAsUser"], |value| value.as_f64() == Some(0.0), "must not be 0");
        }
    }),
    check("Seccomp", 19, false, seccomp),
    check("Seccomp", 25, true, |pod, found| unless_windows(pod, found, seccomp)),
    check("Capabilities", 22, false, capabilities),
    check("Capabilities", 25, true, |pod, found| unless_windows(pod, found, capabilities)),
];

const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

fn unless_windows(pod: &Pod<'_>, found: &mut Found, breaches: fn(&Pod<'_>, &mut Found)) {
    if !pod.is_windows() {
        breaches(pod, found);
    }
}

fn volume_types(pod: &Pod<'_>, found: &mut Found) {
    let volumes = at_key(pod.spec, "volumes").and_then(Value::as_array).into_iter().flatten();
    for (index, volume) in volumes.enumerate() {
        let sources: Vec<&String> =
            volume.as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| *key != "name").collect();
        if !sources.iter().any(|source| VOLUMES.contains(&source.as_str())) {
            let source = sources.first().map_or("unknown", |source| source.as_str());
            found.add("is a forbidden type", Path::of_keys("spec.volumes").index(index).key(source), None, Vec::new());
        }
    }
}

fn privilege_escalation(pod: &Pod<'_>, found: &mut Found) {
    const KEYS: Keys = &["allowPrivilegeEscalation"];
    for container in pod.containers() {
        if container.security(KEYS) != Some(&Value::Bool(false)) {
            let values = container.security(KEYS).map(Value::to_string).into_iter().collect();
            found.add("must be false", container.security_path(KEYS), Some(container.name), values);
        }
    }
}

/// A field that must be right in every container, or right in the Pod and wrong in no container.
fn set_somewhere(pod: &Pod<'_>, found: &mut Found, keys: Keys, is_bad: fn(&Value) -> bool, reason: &'static str) {
    let before = found.breaches.len();
    everywhere(pod, found, keys, is_bad, reason);
    let is_set_in_pod = pod.security(keys).is_some_and(|value| !is_bad(value));
    // Where something is wrong that is the reason, and not what is missing.
    if found.breaches.len() > before || is_set_in_pod {
        return;
    }
    for container in pod.containers() {
        if container.security(keys).is_none() {
            found.add(reason, container.security_path(keys), Some(container.name), Vec::new());
        }
    }
}

fn seccomp(pod: &Pod<'_>, found: &mut Found) {
    set_somewhere(pod, found, &["seccompProfile", "type"], is_no_profile, PROFILES);
}

fn capabilities(pod: &Pod<'_>, found: &mut Found) {
    const DROP: Keys = &["capabilities", "drop"];
    for container in pod.containers() {
        if !texts(container.security(DROP)).any(|name| name == "ALL") {
            let values = texts(container.security(DROP)).map(str::to_owned).collect();
            found.add("must hold ALL", container.security_path(DROP), Some(container.name), values);
        }
        let added = texts(container.security(&["capabilities", "add"])).filter(|name| *name != "NET_BIND_SERVICE");
        let added: Vec<String> = added.map(str::to_owned).collect();
        if !added.is_empty() {
            let reason = "adds something else than NET_BIND_SERVICE";
            found.add(reason, container.security_path(&["capabilities", "add"]), Some(container.name), added);
        }
    }
}
