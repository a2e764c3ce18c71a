//! Models and training-complete events: what is believed, and which version is the newest.

use crate::domain::spec::SpecError;
use jiff::Timestamp;
use muster_core::{Manifest, name};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A model document: its name and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelDocument {
    /// `metadata.name`.
    pub name: String,
    /// Namespace of its repository.
    pub repository_namespace: String,
    /// Its repository.
    pub repository: String,
    /// Its folder in the repository.
    pub path: String,
    /// Whose events are believed; none: everybody who may report at all.
    pub trust: Option<Trust>,
}

/// Whose events are believed. An empty list believes nobody on that way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trust {
    /// CloudEvents sources, on Kafka.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Callers, over gRPC.
    #[serde(default)]
    pub subjects: Vec<String>,
}

/// Which way an event came, and from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporter<'a> {
    /// A CloudEvent's source.
    Source(&'a str),
    /// A caller of the RPC.
    Subject(&'a str),
}

impl ModelDocument {
    /// Whether the reporter is believed.
    pub fn trusts(&self, reporter: Reporter<'_>) -> bool {
        match (&self.trust, reporter) {
            (None, _) => true,
            (Some(trust), Reporter::Source(source)) => trust.sources.iter().any(|known| known == source),
            (Some(trust), Reporter::Subject(subject)) => trust.subjects.iter().any(|known| known == subject),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawModel {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: RawMetadata,
    spec: RawSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawMetadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSpec {
    git_repository_ref: RawReference,
    path: Option<String>,
    trust: Option<Trust>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawReference {
    name: String,
    namespace: Option<String>,
}

/// Reads a `muster.dev/v1 Model`.
pub fn parse_model(manifest: &Manifest) -> Result<ModelDocument, SpecError> {
    let error = |field: &str, message: String| SpecError { field: field.to_owned(), message };
    if (manifest.group(), manifest.kind()) != ("muster.dev", "Model") {
        return Err(error("kind", format!("{}/{} is not a muster.dev Model", manifest.group(), manifest.kind())));
    }
    let raw: RawModel = manifest.read()?;
    let check = |field: &str, id: &str| name::check_id(id).map_err(|wrong| error(field, wrong.to_string()));
    check("metadata.name", &raw.metadata.name)?;
    check("spec.gitRepositoryRef.name", &raw.spec.git_repository_ref.name)?;
    let namespace = match (raw.spec.git_repository_ref.namespace, raw.metadata.namespace) {
        (Some(namespace), _) => namespace,
        (None, namespace) if namespace.is_empty() => "default".to_owned(),
        (None, namespace) => namespace,
    };
    check("spec.gitRepositoryRef.namespace", &namespace)?;
    let path = raw.spec.path.unwrap_or_else(|| format!("models/{}", raw.metadata.name));
    let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.len() > 1_024 {
        return Err(error("spec.path", "must be a folder inside the repository".to_owned()));
    }
    Ok(ModelDocument {
        name: raw.metadata.name,
        repository_namespace: namespace,
        repository: raw.spec.git_repository_ref.name,
        path,
        trust: raw.spec.trust,
    })
}

/// A training that ended, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// `sha256:…` of the artifact.
    pub digest: String,
    /// Where the artifact lies.
    pub uri: String,
    /// When the training ended.
    pub completed_at: Timestamp,
    /// Image tag or full image; empty if the image stays.
    pub image: String,
    /// What was measured.
    pub metrics: BTreeMap<String, f64>,
    /// What it was trained on.
    pub dataset: String,
    /// `namespaces/{namespace}/jobs/{job}`; empty if no job of ours.
    pub job: String,
    /// Epoch of the run that made it.
    pub run_epoch: u64,
}

/// Metrics of one event, at most.
const MAX_METRICS: usize = 200;
/// Bytes of a URI, an image or a data set's name, at most.
const MAX_TEXT: usize = 2_048;

impl Training {
    /// Checks what types cannot say; the error names the field of the event.
    pub fn check(&self) -> Result<(), SpecError> {
        let wrong = |field: &str, message: &str| SpecError { field: format!("event.{field}"), message: message.to_owned() };
        name::check_id(&self.model).map_err(|error| wrong("model", &error.to_string()))?;
        name::check_version_id(&self.version).map_err(|error| wrong("version", &error.to_string()))?;
        if self.digest.parse::<muster_core::Digest>().is_err() {
            return Err(wrong("digest", "must be sha256: and 64 hexadecimal digits"));
        }
        if self.uri.is_empty() {
            return Err(wrong("uri", "must not be empty"));
        }
        for (field, text) in [("uri", &self.uri), ("image", &self.image), ("dataset", &self.dataset)] {
            if text.len() > MAX_TEXT || text.chars().any(|c| c.is_control() || c == '"' || c == '\'' || c == '\\') {
                return Err(wrong(field, "must be one line of at most 2048 bytes without quotes"));
            }
        }
        if !self.job.is_empty() {
            self.job.parse::<name::JobName>().map_err(|error| wrong("job", &error.to_string()))?;
        }
        if self.metrics.len() > MAX_METRICS || self.metrics.iter().any(|(key, value)| key.len() > 200 || !value.is_finite()) {
            return Err(wrong("metrics", "must be at most 200 finite numbers with names of at most 200 bytes"));
        }
        Ok(())
    }
}

/// What an event means, given the version of the same name, if there is one, and the newest of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It is recorded, and released.
    Newest,
    /// It is recorded only: "older" means `completed_at`, never the name.
    Older,
    /// It was recorded before.
    Known,
    /// Another artifact goes under the same name.
    OtherDigest,
}

/// What an event means.
pub fn report(training: &Training, same_name: Option<&str>, newest: Option<Timestamp>) -> Report {
    match same_name {
        Some(digest) if digest == training.digest => Report::Known,
        Some(_) => Report::OtherDigest,
        None if newest.is_some_and(|newest| newest > training.completed_at) => Report::Older,
        None => Report::Newest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::manifest::parse_one;

    fn training() -> Training {
        Training {
            model: "detector".into(),
            version: "v3".into(),
            digest: format!("sha256:{}", "a".repeat(64)),
            uri: "s3://models/detector/v3".into(),
            completed_at: Timestamp::from_second(1_000).unwrap(),
            image: String::new(),
            metrics: BTreeMap::new(),
            dataset: String::new(),
            job: String::new(),
            run_epoch: 0,
        }
    }

    #[test]
    fn an_event_that_says_too_little_is_refused_by_its_field() {
        training().check().unwrap();
        type Spoil = fn(&mut Training);
        let cases: [(&str, Spoil); 7] = [
            ("event.model", |event| event.model = "Upper".into()),
            ("event.version", |event| event.version.clear()),
            ("event.digest", |event| event.digest.clear()),
            ("event.uri", |event| event.uri.clear()),
            ("event.uri", |event| event.uri = "a\nb".into()),
            ("event.job", |event| event.job = "jobs/x".into()),
            ("event.metrics", |event| event.metrics = BTreeMap::from([("loss".into(), f64::NAN)])),
        ];
        for (field, spoil) in cases {
            let mut event = training();
            spoil(&mut event);
            assert_eq!(event.check().unwrap_err().field, field);
        }
    }

    #[test]
    fn older_means_when_the_training_ended_and_never_the_name() {
        let event = training();
        assert_eq!(report(&event, None, None), Report::Newest);
        assert_eq!(report(&event, None, Some(Timestamp::from_second(999).unwrap())), Report::Newest);
        assert_eq!(report(&event, None, Some(Timestamp::from_second(1_001).unwrap())), Report::Older);
        assert_eq!(report(&event, Some(&event.digest), None), Report::Known);
        assert_eq!(report(&event, Some("sha256:other"), None), Report::OtherDigest);
    }

    #[test]
    fn a_model_says_whom_it_believes() {
        let read = |spec: &str| {
            let text = format!("apiVersion: muster.dev/v1\nkind: Model\nmetadata: {{name: detector}}\nspec: {spec}\n");
            parse_model(&parse_one(&text).unwrap())
        };
        let model = read("{gitRepositoryRef: {name: repo}, trust: {sources: [/pipelines/nightly]}}").unwrap();
        assert_eq!((model.path.as_str(), model.repository_namespace.as_str()), ("models/detector", "default"));
        assert!(model.trusts(Reporter::Source("/pipelines/nightly")));
        assert!(!model.trusts(Reporter::Source("/elsewhere")));
        assert!(!model.trusts(Reporter::Subject("ci")));
        assert!(read("{gitRepositoryRef: {name: repo}}").unwrap().trusts(Reporter::Subject("ci")));
        for (spec, field) in [
            ("{gitRepositoryRef: {name: repo}, path: ../x}", "spec.path"),
            ("{gitRepositoryRef: {name: Repo}}", "spec.gitRepositoryRef.name"),
            ("{gitRepositoryRef: {name: repo}, trsut: {}}", "trsut"),
        ] {
            let error = read(spec).unwrap_err().to_string();
            assert!(error.contains(field), "{spec}: {error}");
        }
    }
}
