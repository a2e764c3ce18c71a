//! `muster policy check`: which rules manifests break, judged here or asked of the policy service.

mod asked;
mod junit;
mod local;
mod sarif;

use super::super::{App, submit::prefixed};
use crate::{
    client::Peer,
    documents::{self, Document},
    error::{Exit, Failure, Result},
    kinds::sized,
    output::{Format, Table, format::text},
};
use muster_proto::policy::v1::{EvaluateRequest, verdict_service_client::VerdictServiceClient};
use serde_json::json;

const EXAMPLES: &str = "\
With --policy nothing is asked of a service. Exit status 4 where something enforced is broken.

Examples:
  muster policy check -f job.yaml
  muster policy check -f manifests/ --cluster train-idc -n ml
  muster policy check -f job.yaml -p require-gpu-limits.yaml
  muster policy check -f manifests/ -p policies/ -e exceptions/ --inventory cluster.yaml -o sarif
  kustomize build overlays/prod | muster policy check -f - -p policies/ --enforce";

/// Say which rules manifests break, before they are sent anywhere
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Manifests of any kind: file, folder or `-`; may be repeated
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// Judge by these policies here, without a service; may be repeated
    #[arg(short, long, value_name = "FILE|DIR", conflicts_with = "cluster")]
    policy: Vec<String>,
    /// Objects that these PolicyExceptions name are not asked; may be repeated
    #[arg(short, long, value_name = "FILE|DIR", requires = "policy")]
    exception: Vec<String>,
    /// With the manifests themselves, all objects of the cluster, for rules that ask for others; may be repeated. Without
    /// it such a rule is judged by an object among the manifests, and is not evaluated where it is not there
    #[arg(long, value_name = "FILE|DIR", requires = "policy")]
    inventory: Vec<String>,
    /// Every rule counts as enforced
    #[arg(long, requires = "policy")]
    enforce: bool,
    /// Judge by what holds in this cluster; may be repeated; any cluster otherwise
    #[arg(long, value_name = "CLUSTER")]
    cluster: Vec<String>,
}

/// A manifest that breaks a rule, wherever that was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// Which of the documents, from 0.
    document: usize,
    policy: String,
    rule: String,
    subject: String,
    path: String,
    message: String,
    enforced: bool,
}

/// What the policies say of a set of documents.
#[derive(Debug, Default)]
struct Verdict {
    findings: Vec<Finding>,
    warnings: Vec<String>,
}

impl Verdict {
    fn refusing(&self) -> usize {
        self.findings.iter().filter(|finding| finding.enforced).count()
    }
}

/// Runs it.
pub async fn run(args: &Args, app: &App) -> Result<()> {
    let set = documents::read(&args.file)?;
    if let Some(note) = documents::passed_over_note(&set) {
        eprintln!("{note}");
    }
    let verdict = if args.policy.is_empty() {
        ask(&set.documents, &args.cluster, app).await?
    } else {
        local::judge(&set.documents, args, app.global.namespace.as_deref().unwrap_or_default())?
    };
    show(&verdict, &set.documents, app)?;
    match verdict.refusing() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Refused, "1 violation of an enforced rule")),
        count => Err(Failure::new(Exit::Refused, format!("{count} violations of enforced rules"))),
    }
}

async fn ask(documents: &[Document], clusters: &[String], app: &App) -> Result<Verdict> {
    let session = app.session()?;
    let parts = asked::parts(documents);
    let request = |part: &asked::Part| EvaluateRequest {
        manifests: part.documents.iter().map(|index| documents[*index].manifest.text.clone()).collect(),
        clusters: clusters.iter().map(|cluster| prefixed("clusters/", cluster)).collect(),
        namespace: session.target.namespace.clone().unwrap_or_default(),
    };
    let requests: Vec<EvaluateRequest> = parts.iter().map(request).collect();
    let answers = match requests.as_slice() {
        [request] => {
            let evaluate = |link| {
                let request = request.clone();
                async move { sized!(VerdictServiceClient, link).evaluate(request).await }
            };
            vec![session.call(Peer::Policy, "Evaluate", evaluate).await?]
        }
        _ => asked::one_after_the_other(&session, requests).await?,
    };
    Ok(asked::put_together(&parts, answers))
}

fn show(verdict: &Verdict, documents: &[Document], app: &App) -> Result<()> {
    let refusing = verdict.refusing();
    let places = places(verdict, documents);
    let place = |place: &(String, usize)| format!("{}:{}", place.0, place.1);
    match app.printer.format {
        Format::Table | Format::Wide => {
            let mut table = Table::new(["EFFECT", "WHERE", "SUBJECT", "RULE", "PATH", "MESSAGE"]);
            for (finding, at) in verdict.findings.iter().zip(&places) {
                let effect = if finding.enforced { "refused" } else { "reported" };
                let rule = format!("{}/{}", finding.policy, finding.rule);
                table.row([effect, &place(at), &finding.subject, &rule, &finding.path, &finding.message]);
            }
            if !table.is_empty() {
                app.printer.table(&table)?;
            }
            for warning in &verdict.warnings {
                eprintln!("note: {warning}");
            }
            if refusing == 0 {
                match documents.len() {
                    1 => eprintln!("1 manifest passes"),
                    count => eprintln!("{count} manifests pass"),
                }
            }
            Ok(())
        }
        Format::Json | Format::Yaml | Format::Name => {
            let value = |(finding, at): (&Finding, &(String, usize))| {
                let Finding { document: _, policy, rule, subject, path, message, enforced } = finding;
                json!({
                    "where": place(at), "policy": policy, "rule": rule, "subject": subject, "path": path,
                    "message": message, "enforced": enforced,
                })
            };
            let findings: Vec<_> = verdict.findings.iter().zip(&places).map(value).collect();
            app.printer.value(&json!({ "allowed": refusing == 0, "violations": findings, "warnings": verdict.warnings }))
        }
        Format::Sarif => text(&sarif::written(verdict, &places)),
        Format::Junit => text(&junit::written(verdict, documents, &places)?),
    }
}

/// File and line of each finding: of the field where the document has it, else of the document.
fn places(verdict: &Verdict, documents: &[Document]) -> Vec<(String, usize)> {
    let mut read = std::collections::HashMap::new();
    let place = |finding: &Finding| {
        let Some(document) = documents.get(finding.document) else { return (String::new(), 1) };
        let fields = read.entry(finding.document).or_insert_with(|| document.manifest.places());
        let line = fields.of(&finding.path).map_or_else(|| document.place().line, |(line, _)| line);
        (document.file.clone(), line)
    };
    verdict.findings.iter().map(place).collect()
}
