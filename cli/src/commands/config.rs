//! `muster config`: the contexts of the configuration file.

use super::App;
use crate::{
    client::Peer,
    context::{Entry, File, unknown},
    error::{Failure, Result},
    output::{Format, Table, format::text},
};
use serde_json::json;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  muster config set-context dev --ca-file ca.pem --token-file admin.token --use
  muster config get-contexts
  muster config use-context dev";

/// Contexts: where the services are and who is asking
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show the contexts; the current one has a star
    #[command(after_help = "Examples:\n  muster config get-contexts")]
    GetContexts,
    /// Use a context from now on
    #[command(after_help = "Examples:\n  muster config use-context dev")]
    UseContext {
        /// The context
        name: String,
    },
    /// Make a context, or change what is said of it
    #[command(
        after_help = "Examples:\n  muster config set-context prod --registry https://muster.example.com:7401 --ca-file ca.pem"
    )]
    SetContext(SetContext),
    /// Forget a context
    #[command(after_help = "Examples:\n  muster config delete-context dev")]
    DeleteContext {
        /// The context
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct SetContext {
    /// The context
    name: String,
    /// Address of the fleet registry
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// Address of the scheduler
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// Address of the rollout service
    #[arg(long, value_name = "URL")]
    rollout: Option<String>,
    /// Address of the policy service
    #[arg(long, value_name = "URL")]
    policy: Option<String>,
    /// The authority that signed the services' certificates, PEM
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The bearer token
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the bearer token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Namespace of names that have none
    #[arg(long = "default-namespace", value_name = "NAMESPACE")]
    default_namespace: Option<String>,
    /// Use it from now on
    #[arg(long = "use")]
    use_it: bool,
}

/// Runs it.
pub fn run(args: Args, app: &App) -> Result<()> {
    let path = App::config_path()?;
    let mut file = File::load(&path)?;
    match args.verb {
        Verb::GetContexts => show(&file, app),
        Verb::UseContext { name } => {
            if !file.contexts.contains_key(&name) {
                return Err(unknown(&name, &file));
            }
            file.current_context = Some(name.clone());
            file.save(&path)?;
            text(&format!("context {name} is used from now on\n"))
        }
        Verb::SetContext(given) => {
            let (name, use_it) = (given.name.clone(), given.use_it);
            change(file.contexts.entry(name.clone()).or_default(), given)?;
            if use_it || file.current_context.is_none() {
                file.current_context = Some(name.clone());
            }
            file.save(&path)?;
            text(&format!("context {name} set in {}\n", path.display()))
        }
        Verb::DeleteContext { name } => {
            if file.contexts.remove(&name).is_none() {
                return Err(unknown(&name, &file));
            }
            if file.current_context.as_ref() == Some(&name) {
                file.current_context = None;
            }
            file.save(&path)?;
            text(&format!("context {name} deleted\n"))
        }
    }
}

/// Changes what was given and keeps the rest. Paths are made absolute, since the file lies elsewhere.
fn change(entry: &mut Entry, given: SetContext) -> Result<()> {
    let SetContext { name: _, registry, scheduler, rollout, policy, ca_file, token, token_file, default_namespace, use_it: _ } =
        given;
    let address = |option: &str, given: Option<String>, kept: &mut Option<String>| {
        let Some(url) = given else { return Ok(()) };
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(Failure::usage(format!("--{option}: {url:?} must begin with https://")));
        }
        *kept = Some(url);
        Ok(())
    };
    address("registry", registry, &mut entry.registry)?;
    address("scheduler", scheduler, &mut entry.scheduler)?;
    address("rollout", rollout, &mut entry.rollout)?;
    address("policy", policy, &mut entry.policy)?;
    let absolute = |path: PathBuf| std::path::absolute(&path).map_err(|error| Failure::file(&path, &error));
    if let Some(path) = ca_file {
        entry.ca_file = Some(absolute(path)?);
    }
    if let Some(path) = token_file {
        (entry.token_file, entry.token) = (Some(absolute(path)?), None);
    }
    if let Some(token) = token {
        (entry.token, entry.token_file) = (Some(token), None);
    }
    if let Some(namespace) = default_namespace {
        entry.namespace = Some(namespace);
    }
    Ok(())
}

fn show(file: &File, app: &App) -> Result<()> {
    let identity = |entry: &Entry| match (&entry.token, &entry.token_file) {
        (Some(_), _) => "token".to_owned(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => String::new(),
    };
    let address = |entry: &Entry, peer: Peer| entry.address(peer).cloned().unwrap_or_else(|| peer.default_address().to_owned());
    match app.printer.format {
        Format::Table | Format::Wide => {
            let mut table =
                Table::new(["CURRENT", "NAME", "REGISTRY", "SCHEDULER", "ROLLOUT", "POLICY", "IDENTITY", "NAMESPACE"]);
            for (name, entry) in &file.contexts {
                let current = if file.current_context.as_ref() == Some(name) { "*" } else { "" };
                let mut cells = vec![current.to_owned(), name.clone()];
                cells.extend(Peer::ALL.map(|peer| address(entry, peer)));
                cells.extend([identity(entry), entry.namespace.clone().unwrap_or_default()]);
                table.row(cells);
            }
            if table.is_empty() {
                eprintln!("no contexts; `muster config set-context NAME` makes one");
                return Ok(());
            }
            app.printer.table(&table)
        }
        Format::Sarif | Format::Junit => app.printer.format.check_general(),
        Format::Name => text(&file.contexts.keys().map(|name| format!("{name}\n")).collect::<String>()),
        Format::Json | Format::Yaml => {
            // Tokens stay in the file.
            let contexts: Vec<_> = file
                .contexts
                .iter()
                .map(|(name, entry)| {
                    let [registry, scheduler, rollout, policy] = Peer::ALL.map(|peer| address(entry, peer));
                    json!({
                        "name": name, "current": file.current_context.as_ref() == Some(name),
                        "registry": registry, "scheduler": scheduler, "rollout": rollout, "policy": policy,
                        "caFile": entry.ca_file, "tokenFile": entry.token_file, "namespace": entry.namespace,
                    })
                })
                .collect();
            app.printer.value(&json!({ "contexts": contexts }))
        }
    }
}
