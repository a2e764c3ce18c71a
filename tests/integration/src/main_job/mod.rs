//! The main job in ten steps: the demo plays them all on six clusters, a story one of them on a few.
//!
//! The one thing to know: a step is a file, and its checks read only what users can read: RPCs, the command line, git,
//! Kafka, the clusters' APIs and their audit logs. Nothing is believed because a service said "done". A check that can't
//! come true any more fails at once and says why, instead of waiting for it.

pub mod apply;
pub mod canary;
pub mod crashes;
pub mod documents;
pub mod drift;
pub mod event;
pub mod join;
pub mod layout;
mod points;
pub mod releases;
pub mod reports;
pub mod runs;
pub mod scene;
pub mod share;
pub mod simulation;
pub mod train;
pub mod waves;

use anyhow::{Result, bail};

pub use scene::{Cause, Scene};

/// What a step checked, a line each.
pub type Checked = Vec<String>;

/// The steps, in order, each in a few words.
pub const TITLES: [&str; 10] = [
    "clusters join, strangers don't",
    "a folder is applied",
    "jobs fill the cheap cluster and overflow",
    "a training ends: one version, one commit, one release",
    "a release goes wave by wave",
    "a bad version stops at the canary",
    "a bad version is found out at 10 %",
    "drift, pruning, and a site that is away",
    "who complies, what it cost, one trace",
    "everything is killed, and it completes",
];

/// Plays a step, from 1. With its cause broken it must fail; after that it is played again with the cause mended.
///
/// # Errors
/// A check was not true.
pub async fn play(step: u8, scene: &mut Scene, cause: Cause) -> Result<Checked> {
    if cause == Cause::Mended {
        mend(step, scene).await?;
    }
    scene.cause = cause;
    match step {
        1 => join::play(scene).await,
        2 => apply::play(scene).await,
        3 => train::play(scene).await,
        4 => event::play(scene).await,
        5 => waves::play(scene).await,
        6 => canary::play(scene).await,
        7 => share::play(scene).await,
        8 => drift::play(scene).await,
        9 => reports::play(scene).await,
        10 => crashes::play(scene).await,
        _ => bail!("there is no step {step}"),
    }
}

/// Puts right what a broken step left behind, where playing it again does not do so.
async fn mend(step: u8, scene: &mut Scene) -> Result<()> {
    match step {
        3 => train::mend(scene).await,
        5 => waves::mend(scene).await,
        6 => releases::took_over(scene, "v4").await,
        7 => releases::took_over(scene, "v5").await,
        8 => drift::mend(scene).await,
        10 => crashes::mend(scene).await,
        _ => Ok(()),
    }
}
