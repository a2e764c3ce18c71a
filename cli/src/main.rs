//! `muster`: the command line of Muster. It owns nothing and decides nothing; it asks the services and shows the answers.

mod args;
mod client;
mod commands;
mod context;
mod documents;
mod error;
mod kinds;
mod output;
mod trace;
mod wait;

use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let app = commands::App::new(cli.global, cli.command.name());
    let answer = commands::run(cli.command, &app).await;
    app.finish(answer.as_ref().err());
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}
