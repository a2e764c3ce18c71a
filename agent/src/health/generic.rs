//! Health of what has little to say of itself, and of every kind that is not known, by the conventions of `kstatus`.

use super::{condition, is_true};
use crate::domain::{
    manifest::is_established,
    object::{list, number, text},
    observation::Health,
};
use serde_json::Value;

pub(super) fn service(live: &Value) -> Health {
    if text(live, "/spec/type") == "LoadBalancer" && list(live, "/status/loadBalancer/ingress").is_empty() {
        return Health::progressing("NoAddress", "the load balancer has no address yet");
    }
    Health::healthy()
}

pub(super) fn volume_claim(live: &Value) -> Health {
    match text(live, "/status/phase") {
        "Bound" => Health::healthy(),
        "Lost" => Health::degraded("Lost", "the volume behind the claim is gone"),
        // With WaitForFirstConsumer it stays Pending until a pod wants it, which may be later in the same bundle.
        _ => Health::progressing("Pending", "no volume is bound yet"),
    }
}

pub(super) fn definition(live: &Value) -> Health {
    if let Some(refused) = condition(live, "NamesAccepted").filter(|c| text(c, "/status") == "False") {
        return Health::degraded(text(refused, "/reason"), text(refused, "/message"));
    }
    if is_established(live) { Health::healthy() } else { Health::progressing("NotEstablished", "is not served yet") }
}

/// One whose expressions do not fit the types they are about may not do what it says. The API server's check repeats the
/// expression for each finding; the first line has the first.
pub(super) fn admission_policy(live: &Value) -> Health {
    let Some(warning) = list(live, "/status/typeChecking/expressionWarnings").first() else { return by_convention(live) };
    let found = text(warning, "/warning").lines().next().unwrap_or_default();
    Health::degraded("TypeChecking", format!("{}: {found}", text(warning, "/fieldRef")))
}

pub(super) fn by_convention(live: &Value) -> Health {
    if let (Some(observed), Some(generation)) = (number(live, "/status/observedGeneration"), number(live, "/metadata/generation"))
        && observed < generation
    {
        return Health::progressing("NotObserved", "its controller has not seen the present spec yet");
    }
    for broken in ["Stalled", "Failed"] {
        if let Some(stalled) = condition(live, broken).filter(|c| text(c, "/status") == "True") {
            return Health::degraded(or(text(stalled, "/reason"), broken), text(stalled, "/message"));
        }
    }
    if let Some(busy) = condition(live, "Reconciling").filter(|c| text(c, "/status") == "True") {
        return Health::progressing(or(text(busy, "/reason"), "Reconciling"), text(busy, "/message"));
    }
    if is_true(live, "Ready") {
        return Health::healthy();
    }
    match condition(live, "Ready") {
        Some(unready) => Health::progressing(or(text(unready, "/reason"), "NotReady"), text(unready, "/message")),
        None => Health::healthy(),
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
