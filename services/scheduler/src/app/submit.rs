//! Submitting a job: read it, ask whether any cluster could hold it and whether policy allows it, store it. What is
//! refused leaves nothing behind.

use muster_core::Manifest;
use muster_core::bundle;
use muster_core::name::JobName;
use muster_kit::{Error, Result, Role, telemetry};
use prost::Message;
use serde_json::Value;

use super::admission::Admission;
use super::writer::{NewJob, Written};
use super::{App, JobView, Once};
use crate::crash;
use crate::domain::Fault;
use crate::domain::compose::{MAX_NAMES, RunMarks, compose};
use crate::domain::job::JobState;
use crate::domain::manifest::{DEFAULT_QUEUE, Kind, Requirements, in_manifest, templates};
use crate::domain::record::{Job, time};
use crate::error::in_field;
use crate::peers::{Question, Verdict};
use crate::store;

/// The field of a request that holds a job's manifest.
pub const MANIFEST: &str = "job.manifest";
/// At most this many retries.
const MAX_RETRIES: u32 = 100;

/// A job as it is asked for.
pub struct Submission<'a> {
    /// The namespace of the request's parent; empty if it names none.
    pub namespace: &'a str,
    /// The name of the request; empty if it names none.
    pub name: &'a str,
    /// The manifest as it came.
    pub text: &'a str,
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// The queue of the request; empty: the manifest's.
    pub queue: &'a str,
    /// The priority of the request; absent: the manifest's class.
    pub priority: Option<i32>,
    /// Times a failed run is started anew.
    pub max_retries: u32,
    /// Whether it may be started elsewhere when its cluster is lost.
    pub movable: bool,
    /// The model its cost is charged to; empty if none.
    pub model: &'a str,
    /// Check everything and store nothing.
    pub validate_only: bool,
}

/// The word for a kind in the database.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Volcano => "volcano",
        Kind::Batch => "batch",
        Kind::JobSet => "jobset",
        Kind::PyTorch => "pytorch",
        Kind::Ray => "ray",
    }
}

impl App {
    /// Submits a job.
    ///
    /// # Errors
    /// The field at fault; a policy that is broken, with every violation; a name that is taken; the policy service away.
    pub async fn submit<Q, R>(&self, once: Once<'_, Q>, submission: Submission<'_>, respond: impl Fn(&JobView) -> R) -> Result<R>
    where
        Q: Message,
        R: Message + Default,
    {
        once.caller.require(Role::Operator)?;
        let requirements = Requirements::read(&submission.manifest).map_err(|fault| in_field(MANIFEST, fault))?;
        let mut job = self.job_of(&submission, &requirements)?;
        let verdict = match self.judge(&job, &submission.manifest.value).await {
            Ok(verdict) => verdict,
            // What was accepted before is answered as it was then, by a repetition of the request or by the same job again. What is
            // accepted now finds that out when it is written.
            Err(refused) => return self.known(&once, &job, &submission, &respond).await?.ok_or(refused),
        };
        crash::JUDGED.reached();
        job.policy_revision.clone_from(&verdict.revision);
        let view = JobView { job, run: None, charges: Vec::new(), manifest: Some(submission.text.to_owned()) };
        if submission.validate_only {
            let known = self.known(&once, &view.job, &submission, &respond).await?;
            return Ok(known.unwrap_or_else(|| respond(&view)));
        }
        let response = respond(&view);
        let new = NewJob {
            request: once.key()?,
            caller: once.caller.to_string(),
            method: once.method,
            job: view.job.clone(),
            manifest: submission.text.to_owned(),
            answer: response.encode_to_vec(),
            traceparent: telemetry::current_traceparent(),
        };
        match self.writer.write(new).await? {
            Written::Stored => {
                self.decide.now();
                Ok(response)
            }
            Written::Repeated(answer) => Ok(R::decode(answer.as_slice()).map_err(Error::internal)?),
            Written::Taken => {
                // Somebody was faster: perhaps with the same job.
                let same = self.known(&once, &view.job, &submission, &respond).await?;
                same.ok_or_else(|| taken(&view.job))
            }
        }
    }

    /// The job that a submission asks for, not yet stored.
    fn job_of(&self, submission: &Submission<'_>, requirements: &Requirements) -> Result<Job> {
        let manifest = &submission.manifest;
        let namespace = match (submission.namespace, manifest.namespace()) {
            ("", "") => "default",
            ("", of_manifest) => of_manifest,
            (of_request, "") => of_request,
            (of_request, of_manifest) if of_request == of_manifest => of_request,
            (of_request, of_manifest) => {
                return Err(Error::invalid(
                    "parent",
                    format!("is {of_request:?}, and the manifest's metadata.namespace is {of_manifest:?}"),
                ));
            }
        };
        // Without one in the request it is the manifest's.
        let of_name = |why: String| match submission.name {
            "" => in_field(MANIFEST, Fault::new("metadata.name", why)),
            _ => Error::invalid("job_id", why),
        };
        let name = match (submission.name, manifest.name(), manifest.generate_name()) {
            ("", "", "") => return Err(of_name("a name or a generateName is needed".to_owned())),
            ("", "", prefix) => format!("{prefix}{}", &uuid::Uuid::new_v4().simple().to_string()[..5]),
            ("", name, _) | (name, "", _) => name.to_owned(),
            (of_request, of_manifest, _) if of_request == of_manifest => of_request.to_owned(),
            (of_request, of_manifest, _) => {
                let why = format!("is {of_request:?}, and the manifest's metadata.name is {of_manifest:?}");
                return Err(Error::invalid("job_id", why));
            }
        };
        let name = JobName::new(namespace, &name).map_err(|error| of_name(error.to_string()))?;
        if name.namespace().len() + name.job().len() > MAX_NAMES {
            let why = format!("namespace and name may have {MAX_NAMES} characters together: they label the pods of each run");
            return Err(of_name(why));
        }
        if submission.max_retries > MAX_RETRIES {
            return Err(Error::invalid("job.max_retries", format!("must be from 0 to {MAX_RETRIES}")));
        }
        let queue =
            if submission.queue.is_empty() { requirements.queue.as_deref().unwrap_or(DEFAULT_QUEUE) } else { submission.queue };
        muster_core::name::check_id(queue).map_err(|error| match submission.queue {
            "" => in_field(MANIFEST, Fault::new("spec.queue", error.to_string())),
            _ => Error::invalid("job.queue", error.to_string()),
        })?;
        let of_class = requirements.priority_class.as_ref().and_then(|class| self.settings.priority_classes.get(class)).copied();
        let total = requirements
            .gang
            .total()
            .map_err(|resource| in_field(MANIFEST, Fault::new("spec", format!("the sum of {resource} is too large"))))?;
        let gpus = u32::try_from(total.gpus_rounded_up())
            .map_err(|_| in_field(MANIFEST, Fault::new("spec", "the sum of GPUs is too large")))?;
        let mut job = Job {
            id: 0,
            namespace: name.namespace().to_owned(),
            name: name.job().to_owned(),
            queue: queue.to_owned(),
            manifest_digest: bundle::Digest::of(&bundle::canonical(&manifest.value)).as_str().to_owned(),
            kind: word(requirements.kind).to_owned(),
            gang: requirements.gang.clone(),
            gpus,
            priority: submission.priority.or(of_class).unwrap_or(0),
            max_retries: submission.max_retries,
            movable: submission.movable,
            model: submission.model.to_owned(),
            state: JobState::Queued,
            reason: String::new(),
            epoch: 0,
            charged: false,
            retries: 0,
            not_before: None,
            policy_revision: String::new(),
            traceparent: telemetry::current_traceparent(),
            history: Vec::new(),
            version: 1,
            deadline: requirements.deadline,
            submitted_at: self.now(),
            started_at: None,
            finished_at: None,
        };
        job.go(JobState::Queued, "submitted", self.now());
        Ok(job)
    }

    /// The answer for a job that is there already: to a repetition, or because it is the same and unfinished.
    async fn known<Q, R>(
        &self,
        once: &Once<'_, Q>,
        job: &Job,
        submission: &Submission<'_>,
        respond: &impl Fn(&JobView) -> R,
    ) -> Result<Option<R>>
    where
        Q: Message,
        R: Message + Default,
    {
        if !submission.validate_only
            && let Some(key) = once.key()?
            && let Some(answer) = key.answer(&self.pool).await?
        {
            return Ok(Some(R::decode(answer.as_slice()).map_err(Error::internal)?));
        }
        let Some(existing) = store::job::get(&self.pool, &job.namespace, &job.name).await? else { return Ok(None) };
        if existing.state.is_finished() || existing.manifest_digest != job.manifest_digest {
            return Err(taken(job));
        }
        let view = self.job_view(existing, true).await?;
        Ok(Some(respond(&view)))
    }

    /// Whether a cluster could hold the job and policy allows it there.
    async fn judge(&self, job: &Job, manifest: &Value) -> Result<Verdict> {
        let clusters = admit(&*self.admissions.now().await?, job, manifest)?;
        self.verdict(job, manifest, clusters).await
    }

    /// What policy says of the object a first run would make, on the clusters it may go to.
    async fn verdict(&self, job: &Job, manifest: &Value, clusters: Vec<String>) -> Result<Verdict> {
        let marks = RunMarks {
            namespace: &job.namespace,
            job: &job.name,
            epoch: 1,
            queue: &job.queue,
            traceparent: &job.traceparent,
            slots: &[],
            gang: &job.gang,
            require_model: None,
            domains: None,
            part: None,
        };
        let composed = compose(manifest, &marks).map_err(|fault| in_field(MANIFEST, fault))?;
        let question = Question { manifest: composed.to_string(), clusters, namespace: job.namespace.clone() };
        let mut verdicts = self.policy.evaluate(vec![question]).await;
        let verdict = verdicts.pop().ok_or_else(|| Error::internal(anyhow::anyhow!("a question without a verdict")))??;
        if verdict.allowed {
            return Ok(verdict);
        }
        let mut refused = Error::precondition("POLICY_VIOLATION", format!("refused by policy: {}", verdict.summary()));
        for violation in verdict.violations.iter().filter(|violation| violation.enforced) {
            let kind = format!("policies/{}/rules/{}", violation.policy, violation.rule);
            let field = if violation.path.is_empty() {
                violation.subject.clone()
            } else {
                format!("{} {}", violation.subject, violation.path)
            };
            refused = refused.violating(kind, field, violation.message.clone());
        }
        Err(refused)
    }
}

/// Whether any cluster of the job's queue could hold it; gives the clusters that its queue may use. A queue that isn't there (yet)
/// says nothing.
fn admit(admission: &Admission, job: &Job, manifest: &Value) -> Result<Vec<String>> {
    if !admission.definitions.contains_key(&job.queue) {
        return Ok(Vec::new());
    }
    let mut spec = job.spec();
    spec.submitted_at = time(job.submitted_at);
    admission.engine.admit(&spec).map_err(|refused| {
        let fault: Fault = refused.into();
        let fault = match Kind::of(&job.gang.api, kind_word(manifest)) {
            Ok(kind) => in_manifest(kind, manifest, &templates(kind, manifest).unwrap_or_default(), fault),
            Err(_) => fault,
        };
        in_field(MANIFEST, fault)
    })?;
    Ok(admission.usable(&job.queue))
}

fn kind_word(manifest: &Value) -> &str {
    manifest.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn taken(job: &Job) -> Error {
    let hint = format!("{} exists already; metadata.generateName makes a new name for each submission", job.resource());
    Error::already_exists(job.resource(), hint)
}
