//! Each control broken by itself, versions, and exemptions.

use crate::{Outcome, Policy, Request};
use serde_json::{Value, json};

fn judge(security: &Value, spec: &Value) -> Outcome {
    judge_object(security, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}))
}

fn judge_object(security: &Value, object: &Value) -> Outcome {
    let document = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
        "spec": {"rules": [{
            "name": "r", "match": {"any": [{"resources": {"kinds": ["Pod"]}}]}, "validate": {"podSecurity": security},
        }]},
    });
    let policy = Policy::parse(&document).expect("a policy");
    policy.evaluate(&Request::create(object)).pop().expect("an answer").outcome
}

fn path(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Fail { path, .. } => path.to_string(),
        Outcome::Pass => "pass".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A Pod that keeps the restricted standard.
fn restricted() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "main", "image": "nginx:1",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}},
        }],
        "volumes": [{"name": "v", "emptyDir": {}}],
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut spec = restricted();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let mut place = &mut spec;
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        place = match part.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[part],
        };
    }
    place[key] = value;
    spec
}

#[test]
fn every_control_of_the_baseline_is_asked() {
    let baseline = json!({"level": "baseline", "version": "latest"});
    assert_eq!(path(&judge(&baseline, &restricted())), "pass");
    let container = "/containers/0/securityContext";
    for (pointer, value, expected) in [
        ("/hostNetwork".to_owned(), json!(true), "spec.hostNetwork"),
        (format!("{container}/privileged"), json!(true), "spec.containers[0].securityContext.privileged"),
        (format!("{container}/capabilities/add"), json!(["SYS_ADMIN"]), "spec.containers[0].securityContext.capabilities.add"),
        ("/volumes".to_owned(), json!([{"name": "h", "hostPath": {"path": "/"}}]), "spec.volumes[0].hostPath"),
        ("/containers/0/ports".to_owned(), json!([{"hostPort": 80}]), "spec.containers[0].ports[0].hostPort"),
        (
            "/containers/0/livenessProbe".to_owned(),
            json!({"httpGet": {"host": "example.com"}}),
            "spec.containers[0].livenessProbe.httpGet.host",
        ),
        (
            format!("{container}/appArmorProfile"),
            json!({"type": "Unconfined"}),
            "spec.containers[0].securityContext.appArmorProfile.type",
        ),
        ("/securityContext/seLinuxOptions".to_owned(), json!({"user": "u"}), "spec.securityContext.seLinuxOptions.user"),
        (format!("{container}/procMount"), json!("Unmasked"), "spec.containers[0].securityContext.procMount"),
        ("/securityContext/seccompProfile".to_owned(), json!({"type": "Unconfined"}), "spec.securityContext.seccompProfile.type"),
        (
            "/securityContext/sysctls".to_owned(),
            json!([{"name": "kernel.msgmax", "value": "1"}]),
            "spec.securityContext.sysctls[0].name",
        ),
        (
            "/securityContext/windowsOptions".to_owned(),
            json!({"hostProcess": true}),
            "spec.securityContext.windowsOptions.hostProcess",
        ),
    ] {
        assert_eq!(path(&judge(&baseline, &with(&pointer, value))), expected, "{pointer}");
    }
    let annotated = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": restricted(),
        "metadata": {"name": "a", "annotations": {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}},
    });
    assert!(matches!(judge_object(&baseline, &annotated), Outcome::Fail { .. }));
}

#[test]
fn the_restricted_standard_asks_more() {
    let level = json!({"level": "restricted"});
    assert_eq!(path(&judge(&level, &restricted())), "pass");
    let container = "/containers/0/securityContext";
    for (pointer, value, expected) in [
        ("/volumes".to_owned(), json!([{"name": "n", "nfs": {}}]), "spec.volumes[0].nfs"),
        (
            format!("{container}/allowPrivilegeEscalation"),
            Value::Null,
            "spec.containers[0].securityContext.allowPrivilegeEscalation",
        ),
        ("/securityContext/runAsNonRoot".to_owned(), json!(null), "spec.containers[0].securityContext.runAsNonRoot"),
        ("/securityContext/runAsNonRoot".to_owned(), json!(false), "spec.securityContext.runAsNonRoot"),
        (format!("{container}/runAsUser"), json!(0), "spec.containers[0].securityContext.runAsUser"),
        ("/securityContext/seccompProfile".to_owned(), json!(null), "spec.containers[0].securityContext.seccompProfile.type"),
        (
            format!("{container}/capabilities"),
            json!({"drop": ["NET_RAW"]}),
            "spec.containers[0].securityContext.capabilities.drop",
        ),
    ] {
        assert_eq!(path(&judge(&level, &with(&pointer, value))), expected, "{pointer}");
    }
    assert_eq!(path(&judge(&json!({"level": "privileged"}), &with("/hostNetwork", json!(true)))), "pass");
}

#[test]
fn windows_user_namespaces_and_versions_ask_less() {
    let level = json!({"level": "restricted"});
    let mut windows = with("/os", json!({"name": "windows"}));
    windows["containers"][0]["securityContext"] = json!({});
    windows["securityContext"] = json!({"runAsNonRoot": true});
    assert_eq!(path(&judge(&level, &windows)), "pass");
    let mut own = with("/hostUsers", json!(false));
    own["securityContext"]["runAsNonRoot"] = json!(false);
    assert_eq!(path(&judge(&level, &own)), "pass");
    let probe = with("/containers/0/livenessProbe", json!({"tcpSocket": {"host": "example.com"}}));
    assert_eq!(path(&judge(&json!({"level": "baseline", "version": "v1.30"}), &probe)), "pass");
    let sysctl = with("/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_rmem"}]));
    assert_eq!(path(&judge(&json!({"level": "baseline"}), &sysctl)), "pass");
    assert_ne!(path(&judge(&json!({"level": "baseline", "version": "v1.31"}), &sysctl)), "pass");
}

#[test]
fn an_exemption_takes_back_what_its_part_breaks() {
    let mut spec = restricted();
    spec["containers"][0]["securityContext"]["capabilities"] = json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]});
    let mut second = spec["containers"][0].clone();
    second["name"] = json!("second");
    second["image"] = json!("redis:7");
    spec["containers"].as_array_mut().expect("a list").push(second);
    let security = |exclude: Value| json!({"level": "restricted", "exclude": exclude});
    let nginx = json!({"controlName": "Capabilities", "images": ["nginx*"]});
    let both = json!({"controlName": "Capabilities", "images": ["*"]});
    assert_eq!(path(&judge(&security(json!([nginx])), &spec)), "spec.containers[1].securityContext.capabilities.add");
    assert_eq!(path(&judge(&security(json!([both])), &spec)), "pass");
    let field = "spec.containers[*].securityContext.capabilities.add";
    for (value, expected) in [("SYS_*", "pass"), ("NET_RAW", "spec.containers[0].securityContext.capabilities.add")] {
        let narrow = json!({"controlName": "Capabilities", "images": ["*"], "restrictedField": field, "values": [value]});
        assert_eq!(path(&judge(&security(json!([narrow])), &spec)), expected, "{value}");
    }
    let host = with("/hostPID", json!(true));
    assert_eq!(path(&judge(&security(json!([{"controlName": "Host Namespaces"}])), &host)), "pass");
}

#[test]
fn a_controllers_template_is_judged_in_its_place() {
    let mut spec = restricted();
    spec["hostPID"] = json!(true);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": {"spec": spec}},
    });
    let outcome = judge_object(&json!({"level": "baseline"}), &deployment);
    assert_eq!(path(&outcome), "spec.template.spec.hostPID");
    let Outcome::Fail { message, .. } = outcome else { panic!("a failure") };
    assert_eq!(
        message,
        "Validation rule 'autogen-r' failed. It violates PodSecurity \"baseline:latest\": Host Namespaces: \
         spec.template.spec.hostPID must not be true, found true"
    );
}

#[test]
fn what_is_no_standard_is_refused_by_field() {
    for (security, field) in [
        (json!({"level": "strict"}), "level"),
        (json!({"level": "baseline", "version": "30"}), "version"),
        (json!({"level": "baseline", "exclude": [{"controlName": "None"}]}), "exclude[0].controlName"),
    ] {
        let error = super::PodSecurity::parse(&crate::field::Field::root(&security)).expect_err("refused");
        assert_eq!(error.field, field);
    }
}
