//! Named moments at which a process can be told to die, so that what follows a crash at exactly that moment can be tried.
//!
//! The one thing to know: a point does nothing unless the configuration of *this* process names it (`crash.at`, or
//! `MUSTER_CRASH__AT` for one start). Then the process ends there as by SIGKILL: no destructor runs, no lease is given
//! back. Started again without the setting it goes on. Or it falls asleep there (`crash.by = "stop"`), once, until somebody
//! sends SIGCONT: what it does then is too late.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use nix::sys::signal::{Signal, raise};
use serde::Deserialize;

/// Where the process is to end.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashConfig {
    /// A point's name, as in `scheduler.decided`; none: it does not end by itself.
    #[serde(default)]
    pub at: Option<String>,
    /// How.
    #[serde(default)]
    pub by: Signalled,
}

/// What a process does to itself at a point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signalled {
    /// SIGKILL: it ends.
    #[default]
    Kill,
    /// SIGSTOP, the first time it comes there: it sleeps until SIGCONT.
    Stop,
}

/// A moment with a name, as in `scheduler.decided`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint(pub &'static str);

/// The point that this process does not live beyond, or sleeps at.
static LAST: OnceLock<(CrashPoint, Signalled)> = OnceLock::new();

/// It has slept.
static HAS_SLEPT: AtomicBool = AtomicBool::new(false);

/// Takes the setting, at the start of the process. `known` are the points it has.
///
/// # Errors
/// The process has no such point; the message lists those it has.
pub fn arm(config: &CrashConfig, known: &[CrashPoint]) -> anyhow::Result<()> {
    let Some(point) = chosen(config, known)? else { return Ok(()) };
    tracing::warn!(point = point.0, by = ?config.by, "this process ends or sleeps when it reaches the point that crash.at names");
    // A second start within one process keeps the first's.
    LAST.get_or_init(|| (point, config.by));
    Ok(())
}

fn chosen(config: &CrashConfig, known: &[CrashPoint]) -> anyhow::Result<Option<CrashPoint>> {
    let Some(name) = &config.at else { return Ok(None) };
    match known.iter().find(|point| point.0 == name) {
        Some(point) => Ok(Some(*point)),
        None if known.is_empty() => bail!("crash.at: there is no {name:?}; this process has no crash points"),
        None => {
            let names: Vec<&str> = known.iter().map(|point| point.0).collect();
            bail!("crash.at: there is no {name:?}; the crash points of this process are {}", names.join(", "))
        }
    }
}

impl CrashPoint {
    /// Says that the process has come here; it goes no further if it is told so.
    pub fn reached(self) {
        let signal = match LAST.get() {
            Some((point, Signalled::Kill)) if *point == self => Signal::SIGKILL,
            Some((point, Signalled::Stop)) if *point == self && !HAS_SLEPT.swap(true, Ordering::Relaxed) => Signal::SIGSTOP,
            Some(_) | None => return,
        };
        // Past every filter of the log: these words must be there.
        eprintln!("crash point reached: {}", self.0);
        if let Err(error) = raise(signal) {
            tracing::error!(error = %error, "the process could not signal itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [CrashPoint; 2] = [CrashPoint("scheduler.judged"), CrashPoint("scheduler.decided")];

    fn at(name: &str) -> CrashConfig {
        CrashConfig { at: Some(name.to_owned()), by: Signalled::Kill }
    }

    #[test]
    fn without_the_setting_no_point_is_chosen() {
        assert_eq!(chosen(&CrashConfig::default(), &KNOWN).unwrap(), None);
        // Nothing is armed in this process: it goes on.
        KNOWN[0].reached();
    }

    #[test]
    fn a_point_is_chosen_by_its_name() {
        assert_eq!(chosen(&at("scheduler.decided"), &KNOWN).unwrap(), Some(KNOWN[1]));
    }

    #[test]
    fn an_unknown_point_is_refused_with_those_there_are() {
        let refusal = chosen(&at("scheduler.decide"), &KNOWN).unwrap_err().to_string();
        for words in ["crash.at", "scheduler.decide\"", "scheduler.judged, scheduler.decided"] {
            assert!(refusal.contains(words), "{words:?} is not in {refusal:?}");
        }
        assert!(chosen(&at("any"), &[]).unwrap_err().to_string().contains("no crash points"));
    }
}
