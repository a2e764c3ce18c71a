//! A member's wall clock that can be set wrong while its agent runs.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::finished;

/// What moves the clock of processes that it is loaded into.
const SOURCE: &str = include_str!("clock.c");

/// The clock of whoever is started with [`Clock::variables`].
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// A right one. Compiles what moves it, in this folder.
    ///
    /// # Errors
    /// There is no C compiler, or it refuses the source.
    pub async fn right(folder: &Path) -> Result<Self> {
        let clock = Self { library: folder.join("clock.so"), offset: folder.join("clock-offset") };
        clock.set(0)?;
        let source = folder.join("clock.c");
        std::fs::write(&source, SOURCE)?;
        let mut compiler = tokio::process::Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&clock.library).arg(&source).arg("-ldl");
        finished(compiler, "cc clock.c").await?;
        Ok(clock)
    }

    /// With which environment a process has this clock.
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![("LD_PRELOAD".to_owned(), text(&self.library)), ("CLOCK_OFFSET_FILE".to_owned(), text(&self.offset))]
    }

    /// Sets it wrong by these seconds, from now on; 0 is right.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // In place: who runs has the file mapped.
        let mut file = std::fs::File::options().create(true).truncate(false).write(true).open(&self.offset)?;
        file.write_all(&seconds.to_ne_bytes()).with_context(|| format!("write {}", self.offset.display()))
    }
}
