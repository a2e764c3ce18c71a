//! `muster delete`: resources by name, or those a file describes.

use super::{App, kinds_and_names};
use crate::{
    documents,
    error::{Exit, Failure, Result},
    kinds::{Deletion, Kind, kind_of, resource_name, scoped_name, short},
    output::format::text,
};

const EXAMPLES: &str = "\
Examples:
  muster delete job resnet50-train -n ml
  muster delete app/resnet50-serving -n kurator-system --remove-workloads
  muster delete -f platform/ --ignore-not-found";

/// Delete resources by name or file
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Kind (plural, singular or short), or KIND/NAME
    #[arg(required_unless_present = "file")]
    kind: Option<String>,
    /// Names
    names: Vec<String>,
    /// Delete what these files and folders describe
    #[arg(short, long, value_name = "FILE|DIR|-", conflicts_with = "kind")]
    file: Vec<String>,
    /// An application's workloads go with it
    #[arg(long)]
    remove_workloads: bool,
    /// Delete only this version
    #[arg(long, value_name = "ETAG", conflicts_with = "file")]
    etag: Option<String>,
    /// What is not there counts as deleted
    #[arg(long)]
    ignore_not_found: bool,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let namespace = session.target.namespace();
    let mut targets: Vec<(&'static dyn Kind, String)> = Vec::new();
    match &args.kind {
        Some(word) => {
            let (kind, names) = kinds_and_names(word, &args.names)?;
            if names.is_empty() {
                return Err(Failure::usage(format!("name the {} to delete", kind.spec().plural)));
            }
            for name in &names {
                targets.push((kind, resource_name(kind.spec(), name, namespace)?));
            }
        }
        None => {
            for document in &documents::read(&args.file)?.documents {
                let kind = kind_of(document)?;
                let name = scoped_name(kind, document, namespace)?;
                if name.is_empty() {
                    return Err(Failure::usage(format!("{}: metadata.name: is missing", document.place())));
                }
                targets.push((kind, name));
            }
            // Who refers goes before what is referred to.
            targets.sort_by_key(|(kind, _)| std::cmp::Reverse(super::apply::rank(*kind)));
        }
    }
    let mut first: Option<Failure> = None;
    let alone = targets.len() == 1;
    for (kind, name) in targets {
        let deletion = Deletion {
            name: name.clone(),
            etag: args.etag.clone().unwrap_or_default(),
            remove_workloads: args.remove_workloads,
            request_id: if alone { session.request_id() } else { session.request_id_for(&name) },
        };
        let said = match kind.delete(&session, deletion).await {
            Ok(()) => "deleted",
            Err(failure) if failure.exit == Exit::NotFound && args.ignore_not_found => "was not there",
            Err(failure) if alone => return Err(failure),
            Err(failure) => {
                eprintln!("{}", failure.clone().about(&name));
                first.get_or_insert(failure);
                continue;
            }
        };
        if app.printer.is_for_people() {
            text(&format!("{} {} {said}\n", kind.spec().singular, short(&name)))?;
        } else {
            text(&format!("{name}\n"))?;
        }
    }
    match first {
        None => Ok(()),
        Some(failure) => Err(Failure::new(failure.exit, "not everything was deleted")),
    }
}
