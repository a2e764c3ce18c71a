//! `muster token`: bearer tokens of people and pipelines.

use super::App;
use crate::{
    client::Peer,
    error::{Failure, Result},
    kinds::{Deletion, Scope, find, object, resource_name, short, sized},
    output::format::text,
};
use clap::ValueEnum;
use jiff::Timestamp;
use muster_proto::registry::v1::{
    AccessToken, CreateAccessTokenRequest, Role as WireRole, access_token_service_client::AccessTokenServiceClient,
};
use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, time::Duration};

const EXAMPLES: &str = "\
Examples:
  muster token create --subject ci@example.com --role operator --expires-in 90d --token-file ci.token
  muster token list
  muster token delete ci";

/// Access tokens of people and pipelines
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a token; its secret is shown once
    #[command(after_help = "Examples:\n  muster token create ci --subject ci@example.com --role operator --expires-in 90d")]
    Create {
        /// Name of the token; made up if none
        id: Option<String>,
        /// Whom the audit log names
        #[arg(long, value_name = "WHO")]
        subject: String,
        /// What its bearer may do
        #[arg(long, value_enum)]
        role: Role,
        /// Lifetime; without it the token does not expire
        #[arg(long, value_parser = crate::args::parse_duration, value_name = "DURATION")]
        expires_in: Option<Duration>,
        /// Write the secret to this new file instead, readable by its owner only
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Show tokens, without their secrets
    #[command(after_help = "Examples:\n  muster token list")]
    List,
    /// Void a token
    #[command(after_help = "Examples:\n  muster token delete ci")]
    Delete {
        /// The token
        id: String,
    },
}

/// What a bearer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Reads everything.
    Viewer,
    /// Besides submits, applies, releases.
    Operator,
    /// Besides enrols, prices, mints tokens.
    Admin,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let kind = find("accessTokens")?;
    match args.verb {
        Verb::List => app.printer.list(kind.spec(), &kind.list(&session, &Scope::default()).await?),
        Verb::Delete { id } => {
            let name = resource_name(kind.spec(), &id, "")?;
            let request_id = session.request_id();
            kind.delete(&session, Deletion { name, etag: String::new(), remove_workloads: false, request_id }).await?;
            text(&format!("accessToken {id} deleted\n"))
        }
        Verb::Create { id, subject, role, expires_in, token_file } => {
            let role = match role {
                Role::Viewer => WireRole::Viewer,
                Role::Operator => WireRole::Operator,
                Role::Admin => WireRole::Admin,
            };
            // The file is made first: a secret that has nowhere to go would be lost.
            let file = token_file.as_ref().map(|path| {
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                file.map_err(|error| Failure::file(path, &error))
            });
            let file = file.transpose()?;
            let expire_time = expires_in.map(in_future).transpose()?;
            let request = CreateAccessTokenRequest {
                access_token_id: id.unwrap_or_default(),
                access_token: Some(AccessToken { subject, role: role.into(), expire_time, ..AccessToken::default() }),
                request_id: session.request_id(),
            };
            let made = session
                .call(Peer::Registry, "CreateAccessToken", |link| {
                    let request = request.clone();
                    async move { sized!(AccessTokenServiceClient, link).create_access_token(request).await }
                })
                .await;
            let made = match (made, &token_file) {
                (Ok(made), _) => made,
                (Err(failure), Some(path)) => {
                    drop(fs::remove_file(path));
                    return Err(failure);
                }
                (Err(failure), None) => return Err(failure),
            };
            if made.secret.is_empty() {
                return Err(Failure::usage(format!("{} was made by an earlier request; its secret was shown then", made.name)));
            }
            match (file, token_file) {
                (Some(mut file), Some(path)) => {
                    writeln!(file, "{}", made.secret).map_err(|error| Failure::file(&path, &error))?;
                    text(&format!("accessToken {} created; its secret is in {}\n", short(&made.name), path.display()))
                }
                (_, _) if !app.printer.is_for_people() => app.printer.one(kind.spec(), &object(&made)),
                (_, _) => {
                    eprintln!("accessToken {} created; the secret is shown this once:", short(&made.name));
                    text(&format!("{}\n", made.secret))
                }
            }
        }
    }
}

/// A time so far ahead, on the wire.
pub fn in_future(ahead: Duration) -> Result<muster_proto::Timestamp> {
    let time = Timestamp::now().checked_add(ahead).map_err(|_| Failure::usage("the lifetime is too long"))?;
    Ok(muster_proto::Timestamp { seconds: time.as_second(), nanos: 0 })
}
