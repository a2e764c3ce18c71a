//! The Compose specification's own loader, as a program that prints what it makes of a file.

use std::path::PathBuf;

use anyhow::Result;

use super::tools::{Tool, go_build};

const COMPOSE: Tool = Tool { name: "compose", pins: &["go.mod", "go.sum", "main.go"] };

/// The program; built where it is missing.
///
/// # Errors
/// Go is missing, or it can't be fetched or built.
pub async fn program() -> Result<PathBuf> {
    let folder = COMPOSE.made(async |into| go_build(&COMPOSE, &["."], &[], &into.join("compose")).await).await?;
    Ok(folder.join("compose"))
}
