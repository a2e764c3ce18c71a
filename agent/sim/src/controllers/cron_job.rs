//! CronJobs: a Job at each minute its schedule names. A minute lasts as long as the cluster's delays say, so that a test
//! need not wait for a real one; which minute it is follows the clock.

use super::pods;
use crate::{
    amend,
    delete::Propagation,
    json,
    state::{Actor, State, now},
    store::Key,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Looks whether one CronJob is due.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let cron = state.store.get(key)?.clone();
    if json::is_deleting(&cron) {
        return None;
    }
    let actor = Actor::controller("cronjob-controller", pods::MANAGER);
    let jobs: Vec<Arc<Value>> = state.store.owned(json::uid(&cron), "jobs.batch").cloned().collect();
    let (finished, mut running): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| json::condition_is_true(job, "Complete") || json::condition_is_true(job, "Failed"));
    trim(state, &actor, &cron, &finished);
    let minute_ms = i64::try_from(state.config.delays.cron_minute_ms).unwrap_or(60_000);
    let clock_ms = jiff::Timestamp::now().as_millisecond();
    let minute = clock_ms.div_euclid(minute_ms);
    let started = format!("{}-{minute}", key.name);
    let wait = Duration::from_millis(u64::try_from(minute_ms - clock_ms.rem_euclid(minute_ms)).unwrap_or(1));
    let due = !json::flag(&cron, "/spec/suspend") && matches(json::text(&cron, "/spec/schedule"), minute);
    let made = json::text(&cron, "/status/lastScheduleTime");
    let already = state.store.find("jobs.batch", &key.namespace, &started).is_some();
    let created_ms =
        json::text(&cron, "/metadata/creationTimestamp").parse::<jiff::Timestamp>().map_or(0, |at| at.as_millisecond());
    // The minute in which it was made counts only where it was made before it began.
    if due && !already && created_ms <= minute * minute_ms && last_minute(made, minute_ms) != Some(minute) {
        match (json::text(&cron, "/spec/concurrencyPolicy"), running.is_empty()) {
            ("Forbid", false) => {}
            (policy, _) => {
                if policy == "Replace" {
                    for job in running.drain(..) {
                        drop(amend::delete(
                            state,
                            &actor,
                            ("jobs.batch", &key.namespace, json::name(&job)),
                            Propagation::Background,
                            None,
                        ));
                    }
                }
                let template = &cron["spec"]["jobTemplate"];
                let job = json!({
                    "apiVersion": "batch/v1", "kind": "Job",
                    "metadata": {
                        "name": started, "namespace": key.namespace, "labels": template["metadata"]["labels"],
                        "annotations": template["metadata"]["annotations"], "ownerReferences": [pods::controller_reference(&cron)],
                    },
                    "spec": template["spec"],
                });
                running.extend(amend::create(state, &actor, "jobs.batch", job).ok());
            }
        }
    }
    let at = now();
    let ran = state.store.find("jobs.batch", &key.namespace, &started).is_some();
    let active: Vec<Value> = running
        .iter()
        .map(|job| json!({"apiVersion": "batch/v1", "kind": "Job", "name": json::name(job), "namespace": key.namespace, "uid": json::uid(job)}))
        .collect();
    drop(amend::change(state, &actor, ("cronjobs.batch", &key.namespace, &key.name), "status", |cron| {
        let mut status = cron.get("status").cloned().unwrap_or_else(|| json!({}));
        if active.is_empty() {
            json::remove(&mut status, &["active"]);
        } else {
            status["active"] = Value::Array(active);
        }
        if ran && !already {
            status["lastScheduleTime"] = json!(at);
        }
        if let Some(last) =
            finished.iter().map(|job| json::text(job, "/status/completionTime")).max().filter(|last| !last.is_empty())
        {
            status["lastSuccessfulTime"] = json!(last);
        }
        cron["status"] = status;
    }));
    Some(wait)
}

fn last_minute(time: &str, minute_ms: i64) -> Option<i64> {
    // Times in objects are whole seconds; a minute shorter than that cannot be told from them.
    (minute_ms >= 1_000)
        .then(|| time.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond().div_euclid(minute_ms)))
        .flatten()
}

fn trim(state: &mut State, actor: &Actor, cron: &Value, finished: &[Arc<Value>]) {
    for (kind, field, default) in [("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)] {
        let keep = json::integer(cron, &format!("/spec/{field}")).unwrap_or(default).max(0) as usize;
        let mut of_kind: Vec<&Arc<Value>> = finished.iter().filter(|job| json::condition_is_true(job, kind)).collect();
        of_kind.sort_by_key(|job| json::text(job, "/status/startTime").to_owned());
        for job in of_kind.iter().take(of_kind.len().saturating_sub(keep)) {
            drop(amend::delete(
                state,
                actor,
                ("jobs.batch", json::namespace(cron), json::name(job)),
                Propagation::Background,
                None,
            ));
        }
    }
}

/// Whether a five-field schedule names this minute, counted from the epoch in UTC.
fn matches(schedule: &str, minute: i64) -> bool {
    let schedule = match schedule {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        other => other,
    };
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let Ok(at) = jiff::Timestamp::from_second(minute.saturating_mul(60)) else { return false };
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    let weekday = i64::from(at.weekday().to_sunday_zero_offset());
    let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return false };
    let day = field(days, i64::from(at.day()), 1);
    let week = field(weekdays, weekday, 0) || (weekday == 0 && field(weekdays, 7, 0));
    // Where both days are restricted either is enough, as cron has always had it.
    let date = if *days != "*" && *weekdays != "*" { day || week } else { day && week };
    field(minutes, i64::from(at.minute()), 0)
        && field(hours, i64::from(at.hour()), 0)
        && field(months, i64::from(at.month()), 1)
        && date
}

fn field(text: &str, value: i64, lowest: i64) -> bool {
    text.split(',').any(|part| {
        let (range, step) = part.split_once('/').map_or((part, 1), |(range, step)| (range, step.parse().unwrap_or(1)));
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (lowest, i64::MAX),
            (_, Some((first, last))) => (first.parse().unwrap_or(-1), last.parse().unwrap_or(-1)),
            (one, None) => {
                let one = one.parse().unwrap_or(-1);
                (one, if part.contains('/') { i64::MAX } else { one })
            }
        };
        first >= 0 && value >= first && value <= last && step > 0 && (value - first) % step == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_names_its_minutes() {
        // 2026-01-04 is a Sunday; 10:30 UTC.
        let minute = "2026-01-04T10:30:00Z".parse::<jiff::Timestamp>().unwrap().as_second() / 60;
        for (schedule, due) in [
            ("* * * * *", true),
            ("30 10 * * *", true),
            ("*/15 * * * *", true),
            ("*/7 * * * *", false),
            ("0-40/10 8-12 * * 7", true),
            ("30 10 * * 1-5", false),
            ("30 10 4 * 1", true),
            ("nonsense", false),
        ] {
            assert_eq!(matches(schedule, minute), due, "{schedule}");
        }
    }
}
