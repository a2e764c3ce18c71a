//! The checked-in descriptions of the queries (`.sqlx`), as sqlx's macros write them.
//!
//! The one thing to know: the macros describe queries against a live database and write what they find into
//! `SQLX_OFFLINE_DIR` whenever the crate is compiled with its URL variable set. So the cache is made by compiling
//! the crate once more; only its library is, and tests use unchecked queries.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use super::book::Book;
use crate::workspace;
use muster_integration_tests::parts::postgres::Server;

/// File name → content.
type Descriptions = BTreeMap<String, String>;

/// Compiles the crate against its database and makes its `.sqlx` folder hold exactly what its queries are.
///
/// # Errors
/// The crate doesn't compile; its cache is then as it was.
pub async fn write(book: Book, server: &Server) -> Result<()> {
    let current = describe(book, server).await?;
    let folder = book.folder().join(".sqlx");
    let before = read(&folder)?;
    if !current.is_empty() {
        fs::create_dir_all(&folder)?;
    }
    for (name, content) in &current {
        if before.get(name) != Some(content) {
            fs::write(folder.join(name), content)?;
        }
    }
    for name in before.keys().filter(|name| !current.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
    }
    eprintln!("{}: {} queries described", book.package(), current.len());
    Ok(())
}

/// What is wrong with the checked-in cache of a crate, one line each; empty where it is current.
///
/// # Errors
/// The crate doesn't compile.
pub async fn differences(book: Book, server: &Server) -> Result<Vec<String>> {
    let current = describe(book, server).await?;
    let before = read(&book.folder().join(".sqlx"))?;
    let mut lines = Vec::new();
    for (name, content) in &current {
        match before.get(name) {
            None => lines.push(format!("{}: missing {name}", book.package())),
            Some(old) if old != content => {
                lines.push(format!("{}: changed {name}", book.package()));
            }
            Some(_) => {}
        }
    }
    for name in before.keys().filter(|name| !current.contains_key(*name)) {
        lines.push(format!("{}: no such query any more {name}", book.package()));
    }
    Ok(lines)
}

/// Compiles the crate's library against its database and answers what the macros wrote.
async fn describe(book: Book, server: &Server) -> Result<Descriptions> {
    // The others first, from their own caches: two crates may ask the same words of different tables, and what is written
    // below is read by all that is compiled then. What does not compile now is this crate, or says so again below.
    let mut others = check();
    others.arg("--keep-going").stderr(Stdio::null()).status().await.context("run cargo")?;
    let scratch = tempfile::tempdir()?;
    // The environment of a macro is not among the inputs cargo watches; a newer source file is.
    let source = book.folder().join("src/lib.rs");
    fs::File::options()
        .append(true)
        .open(&source)
        .and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("touch {}", source.display()))?;
    let mut command = check();
    command
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", scratch.path())
        .env(book.url_variable(), server.url(book.database()));
    let status = command.status().await.context("run cargo")?;
    if !status.success() {
        bail!("{} does not compile against its database", book.package());
    }
    read(scratch.path())
}

/// Compiles every library, with nobody's database.
fn check() -> tokio::process::Command {
    let mut command = workspace::cargo();
    command
        .args(["check", "--quiet", "--workspace", "--lib"])
        .current_dir(workspace::root())
        .env_remove("DATABASE_URL")
        .kill_on_drop(true);
    for book in Book::ALL {
        command.env_remove(book.url_variable());
    }
    command
}

fn read(folder: &Path) -> Result<Descriptions> {
    let mut descriptions = Descriptions::new();
    if !folder.is_dir() {
        return Ok(descriptions);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        descriptions.insert(name, fs::read_to_string(entry.path())?);
    }
    Ok(descriptions)
}
