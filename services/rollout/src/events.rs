//! Kafka in and out: releases as they change, and training-complete events of strangers.
//!
//! Inbound CloudEvents 1.0 in binary and structured mode on `mlops.events`; what cannot be read, or is refused for good,
//! goes to the dead letters with the reason and never blocks the partition.

use crate::app::{
    App, model,
    view::{ApplicationView, ReleaseView},
};
use crate::domain::model::{Reporter, Training};
use crate::domain::release::ReleaseState;
use crate::grpc::convert;
use crate::store;
use async_trait::async_trait;
use muster_kit::{
    Error, Result, Tx,
    consume::{Handler, Message},
    error::Kind,
    event::{self, NewEvent},
    telemetry,
};
use muster_proto::event::v1::TrainingComplete;
use serde::Deserialize;
use serde_json::Value;
use tracing::Instrument;

/// The one type that is understood.
const TRAINING_COMPLETED: &str = "dev.muster.model.training.completed.v1";
/// Bytes of an event, at most.
const MAX_BODY: usize = 1024 * 1024;

/// What happened to a release, by the state it is in.
fn release_kind(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Pending => "release.pending",
        ReleaseState::Progressing => "release.progressing",
        ReleaseState::Paused => "release.paused",
        ReleaseState::Completed => "release.completed",
        ReleaseState::RollingBack => "release.rolling_back",
        ReleaseState::Failed => "release.failed",
        ReleaseState::Superseded => "release.superseded",
        ReleaseState::Refused => "release.refused",
    }
}

/// Appends how a release stands to the event log.
pub async fn append_release(tx: &mut Tx, view: &ReleaseView) -> Result<()> {
    let name = view.release.name.to_string();
    let event = NewEvent {
        topic: "muster.releases",
        kind: release_kind(view.release.state),
        aggregate: &name,
        version: view.release.version,
        deleted: false,
        state: &convert::release(view),
    };
    event::append(tx, event).await
}

/// Appends how an application stands to the event log.
pub async fn append_application(tx: &mut Tx, view: &ApplicationView, deleted: bool) -> Result<()> {
    let name = view.application.name.to_string();
    let event = NewEvent {
        topic: "muster.releases",
        kind: if deleted { "application.deleted" } else { "application.changed" },
        aggregate: &name,
        version: view.application.version + i64::from(deleted),
        deleted,
        state: &convert::application(view),
    };
    event::append(tx, event).await
}

/// A CloudEvent, from either mode.
#[derive(Debug, PartialEq)]
struct CloudEvent {
    id: String,
    source: String,
    kind: String,
    traceparent: String,
    data: Value,
}

#[derive(Deserialize)]
struct Structured {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    traceparent: String,
    data: Option<Value>,
}

/// Reads a message as a CloudEvent 1.0.
fn cloud_event(message: &Message) -> Result<CloudEvent> {
    if message.body.len() > MAX_BODY {
        return Err(Error::invalid("body", format!("is larger than {MAX_BODY} bytes")));
    }
    let header = |name: &str| message.headers.get(name).cloned().unwrap_or_default();
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|error| Error::invalid("body", error.to_string()));
    let event = if header("content-type").starts_with("application/cloudevents+json") {
        let read: Structured =
            serde_json::from_value(json(&message.body)?).map_err(|error| Error::invalid("body", error.to_string()))?;
        version(&read.specversion)?;
        let data = read.data.ok_or_else(|| Error::invalid("data", "must not be empty"))?;
        CloudEvent { id: read.id, source: read.source, kind: read.kind, traceparent: read.traceparent, data }
    } else {
        version(&header("ce_specversion"))?;
        let traceparent = if header("ce_traceparent").is_empty() { header("traceparent") } else { header("ce_traceparent") };
        CloudEvent {
            id: header("ce_id"),
            source: header("ce_source"),
            kind: header("ce_type"),
            traceparent,
            data: json(&message.body)?,
        }
    };
    for (field, text) in [("id", &event.id), ("source", &event.source), ("type", &event.kind)] {
        if text.is_empty() || text.len() > 1_024 || text.chars().any(char::is_control) {
            return Err(Error::invalid(field, "must be 1 to 1024 characters"));
        }
    }
    Ok(event)
}

fn version(text: &str) -> Result<()> {
    if text == "1.0" { Ok(()) } else { Err(Error::invalid("specversion", format!("{text:?} is not CloudEvents 1.0"))) }
}

/// A training-complete event as the domain reads it.
pub fn training(event: TrainingComplete) -> Result<Training> {
    let TrainingComplete { model, version, digest, uri, completed_at, image, metrics, dataset, job, run_epoch } = event;
    let completed_at = completed_at
        .as_ref()
        .and_then(muster_kit::time::from_proto)
        .ok_or_else(|| Error::invalid("event.completed_at", "must say when the training ended"))?;
    let metrics = metrics.into_iter().collect();
    let training = Training { model, version, digest, uri, completed_at, image, metrics, dataset, job, run_epoch };
    training.check().map_err(|error| Error::invalid(error.field, error.message))?;
    Ok(training)
}

/// Takes training-complete events from Kafka.
pub struct Inbound(pub App);

#[async_trait]
impl Handler for Inbound {
    async fn handle(&self, tx: &mut Tx, message: &Message) -> Result<()> {
        let event = cloud_event(message)?;
        let span = tracing::info_span!("mlops.event", otel.kind = "consumer", event.source = event.source, event.id = event.id);
        telemetry::continue_trace(&span, &event.traceparent);
        self.take(tx, event).instrument(span).await
    }
}

impl Inbound {
    async fn take(&self, tx: &mut Tx, event: CloudEvent) -> Result<()> {
        if event.kind != TRAINING_COMPLETED {
            return Err(Error::invalid("type", format!("{} is not understood", event.kind)));
        }
        if !store::model::take_event(tx, &event.source, &event.id).await? {
            return Ok(());
        }
        let complete: TrainingComplete =
            serde_json::from_value(event.data).map_err(|error| Error::invalid("data", error.to_string()))?;
        let training = training(complete)?;
        // The transaction holds nothing but this consumer's own offset, and the call has a deadline of three seconds.
        model::check_run(&self.0, &training).await?;
        let named = format!("{}/{}", event.source, event.id);
        match model::record(&self.0, tx, &training, Reporter::Source(&event.source), &named).await {
            Ok(_) => Ok(()),
            // Nothing that a repetition would change: to the dead letters, by the reason.
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Conflict | Kind::Internal) => Err(error),
            Err(error) => Err(Error::invalid("data", error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn message(headers: &[(&str, &str)], body: &str) -> Message {
        Message {
            key: String::new(),
            headers: headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
            body: body.as_bytes().to_vec(),
            position: "mlops.events/0/0".to_owned(),
        }
    }

    #[test]
    fn both_modes_say_the_same() {
        let binary = message(
            &[("ce_specversion", "1.0"), ("ce_id", "7"), ("ce_source", "/nightly"), ("ce_type", TRAINING_COMPLETED)],
            r#"{"model": "detector"}"#,
        );
        let structured = message(
            &[("content-type", "application/cloudevents+json; charset=utf-8")],
            &format!(
                r#"{{"specversion": "1.0", "id": "7", "source": "/nightly", "type": "{TRAINING_COMPLETED}", "data": {{"model": "detector"}}}}"#
            ),
        );
        assert_eq!(cloud_event(&binary).unwrap(), cloud_event(&structured).unwrap());
    }

    #[test]
    fn what_cannot_be_read_names_its_field() {
        let cases = [
            (message(&[], "{}"), "specversion"),
            (message(&[("ce_specversion", "0.3")], "{}"), "specversion"),
            (message(&[("ce_specversion", "1.0")], "{}"), "id"),
            (message(&[("ce_specversion", "1.0"), ("ce_id", "7"), ("ce_source", "s")], "{}"), "type"),
            (message(&[("ce_specversion", "1.0")], "{"), "body"),
            (message(&[("content-type", "application/cloudevents+json")], "{}"), "body"),
        ];
        for (message, field) in cases {
            let error = cloud_event(&message).unwrap_err();
            assert_eq!(error.violations()[0].field, field, "{error}");
        }
        let error = training(TrainingComplete { model: "m".into(), ..TrainingComplete::default() }).unwrap_err();
        assert_eq!(error.violations()[0].field, "event.completed_at");
    }
}
