//! Health of `batch/v1`: a Job that ended well is healthy, one that runs is on its way, one that failed is broken.

use super::{condition, is_true};
use crate::domain::{object::text, observation::Health};
use serde_json::Value;

pub(super) fn job(live: &Value) -> Health {
    if is_true(live, "Complete") {
        return Health::healthy();
    }
    if let Some(failed) = condition(live, "Failed").filter(|c| text(c, "/status") == "True") {
        return Health::degraded(text(failed, "/reason"), text(failed, "/message"));
    }
    if live.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        return Health::suspended("the job is suspended");
    }
    let active = live.pointer("/status/active").and_then(Value::as_i64).unwrap_or(0);
    Health::progressing("Running", format!("{active} pods are active"))
}

pub(super) fn cron_job(live: &Value) -> Health {
    if live.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        return Health::suspended("the schedule is suspended");
    }
    Health::healthy()
}
