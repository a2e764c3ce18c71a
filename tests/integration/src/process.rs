//! Child processes that cannot outlive us.
//!
//! The one thing to know: a child is started through the *leash*, a tiny first stage that asks the kernel to
//! signal the child when our process dies (even by SIGKILL), drops root where asked to, and then becomes the
//! program. Beside that a [`Process`] is stopped and reaped when it is dropped.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};

pub use muster_testkit::free_port;

/// The first argument by which a program recognises that it is to act as the leash.
pub const LEASH_ARGUMENT: &str = "__leash";

/// How long a process may take to end after it was asked to, before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(25);

/// The program that is run as the leash, and the arguments that make it one.
#[derive(Debug, Clone)]
pub struct Leash {
    program: PathBuf,
}

impl Leash {
    /// A leash that is `program __leash …`: any program that calls [`become_program`] when its first argument is
    /// [`LEASH_ARGUMENT`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// This very program as the leash. It stays valid when the file is replaced by a newer build.
    pub fn this_program() -> Self {
        let own = Path::new("/proc/self/exe");
        if own.exists() { Self::new(own) } else { Self::new(std::env::current_exe().unwrap_or_else(|_| own.to_path_buf())) }
    }
}

/// What one of Muster's processes does to itself at one of its crash points.
#[derive(Debug, Clone, Copy)]
pub enum Crash<'a> {
    /// Nothing.
    Never,
    /// It ends there, as by SIGKILL.
    DiesAt(&'a str),
    /// It sleeps there, once, until SIGCONT.
    SleepsAt(&'a str),
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    folder: Option<PathBuf>,
    log: Option<PathBuf>,
    uid: Option<u32>,
    stop_signal: Signal,
}

impl Program {
    /// `name` is how messages call it; its log, when it has one, is appended to.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            log: None,
            uid: None,
            stop_signal: Signal::SIGTERM,
        }
    }

    /// One more argument.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// More arguments.
    pub fn arguments<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// One more environment variable, beside the inherited ones.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// For one of Muster's processes: what it does to itself at one of its crash points.
    pub fn fails(self, crash: Crash<'_>) -> Self {
        match crash {
            Crash::Never => self,
            Crash::DiesAt(point) => self.variable("MUSTER_CRASH__AT", point),
            Crash::SleepsAt(point) => self.variable("MUSTER_CRASH__AT", point).variable("MUSTER_CRASH__BY", "stop"),
        }
    }

    /// The working folder. Without one, ours.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Standard output and error are appended to this file. Without one they are ours.
    pub fn log(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Run as another user (and the group of the same number, no other groups). Only root may ask.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// What asks it to end in order: SIGTERM unless said otherwise. The kernel sends the same when we die.
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Starts it in a process group of its own, so that a Ctrl-C at the terminal reaches us alone and we stop
    /// the children in order.
    ///
    /// # Errors
    /// The log can't be opened, or the leash can't be started. A program that doesn't exist is seen later, as an
    /// exit with status 127.
    pub fn start(&self, leash: &Leash) -> Result<Process> {
        let mut command = Command::new(&leash.program);
        command
            .arg(LEASH_ARGUMENT)
            .arg(self.stop_signal.as_str())
            .arg(self.uid.map_or("-".to_owned(), |uid| uid.to_string()))
            .arg(std::process::id().to_string())
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if let Some(log) = &self.log {
            let file =
                File::options().create(true).append(true).open(log).with_context(|| format!("open the log {}", log.display()))?;
            command.stderr(file.try_clone()?).stdout(file);
        }
        let child =
            spawn_from_a_lasting_thread(command).with_context(|| format!("start {}: {}", self.name, self.program.display()))?;
        Ok(Process { name: self.name.clone(), child, log: self.log.clone(), stop_signal: self.stop_signal })
    }
}

/// A running child. Dropping it stops it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
    stop_signal: Signal,
}

impl Process {
    /// How messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which is also that of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes, if to a file.
    pub fn log(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    /// Fails, with the end of its log, once the process has ended.
    ///
    /// # Errors
    /// The process has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended: {}{}", self.name, describe(status), self.log_tail());
        }
        Ok(())
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// The process can't be waited for.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL, at once, and reaped: what a crash of the machine looks like to the others.
    ///
    /// # Errors
    /// The signal can't be sent.
    pub fn crash(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::SIGKILL)?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// Sends a signal to the process (not to its group).
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(pid_of(&self.child), signal).with_context(|| format!("signal {}", self.name))
    }

    /// Whether it sleeps, after a SIGSTOP.
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn sleeps(&self) -> Result<bool> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).with_context(|| format!("look at {}", self.name))?;
        Ok(status.lines().any(|line| line.starts_with("State:") && line.contains("(stopped)")))
    }

    /// Asks it to end and does not wait.
    pub fn ask_to_stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may end in this very moment; whoever waits for it sees that.
            self.signal(self.stop_signal).ok();
        }
    }

    /// Asks it to end, waits, and kills it only after a grace of 25 seconds. Answers whether it ended by itself.
    ///
    /// # Errors
    /// The process can't be waited for.
    pub fn stop(&mut self) -> Result<bool> {
        if self.child.try_wait()?.is_some() {
            return Ok(true);
        }
        self.signal(self.stop_signal)?;
        // Asleep, it would not hear that.
        self.signal(Signal::SIGCONT)?;
        let deadline = Instant::now() + STOP_GRACE;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.crash()?;
        Ok(false)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The process can't be waited for.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// The last lines of its log, to stand below an error message.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 20;
        let Some(text) = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()) else {
            return String::new();
        };
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        format!("\nthe end of its log:\n  {}", tail.join("\n  "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("could not stop {}: {error:#}", self.name);
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It can't be started, or fails; what it printed is in the error.
pub async fn finished(command: tokio::process::Command, what: &str) -> Result<()> {
    printed(command, what).await.map(drop)
}

/// Runs a command to its end, and answers what it printed.
///
/// # Errors
/// As [`finished`].
pub async fn printed(mut command: tokio::process::Command, what: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.with_context(|| format!("run {what}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!("{what} failed: {}\n{}", text(&output.stderr), text(&output.stdout));
    }
    Ok(text(&output.stdout))
}

/// The leash itself: to be called first thing in `main`. Returns at once unless the program was started as a
/// leash; otherwise it becomes the program it was asked for, and returns never.
pub fn become_program_if_leash() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) != Some(LEASH_ARGUMENT) {
        return;
    }
    let error = match become_program(&arguments[2..]) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("leash: {error:#}");
    std::process::exit(127);
}

fn become_program(arguments: &[String]) -> Result<std::convert::Infallible> {
    let [signal, uid, parent, program, rest @ ..] = arguments else {
        bail!("usage: {LEASH_ARGUMENT} SIGNAL UID|- PARENT PROGRAM [ARGUMENT]…");
    };
    if uid != "-" {
        let uid: u32 = uid.parse().context("UID")?;
        nix::unistd::setgroups(&[]).context("drop the groups of root")?;
        nix::unistd::setgid(Gid::from_raw(uid)).context("take the other group")?;
        nix::unistd::setuid(Uid::from_raw(uid)).context("become the other user")?;
    }
    // After the change of user: the kernel forgets the parent-death signal when the user changes.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(signal.parse::<Signal>().context("SIGNAL")?)?;
    #[cfg(not(target_os = "linux"))]
    signal.parse::<Signal>().context("SIGNAL")?;
    // Between our start and the call above the parent may have died: the signal would never come.
    if nix::unistd::getppid() != Pid::from_raw(parent.parse().context("PARENT")?) {
        bail!("the parent is gone already");
    }
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("run {program}"))
}

/// The kernel's parent-death signal follows the *thread* that started the child, and threads of a runtime come
/// and go. So all children are started by one thread that stays.
fn spawn_from_a_lasting_thread(command: Command) -> std::io::Result<Child> {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                // The asker waits for the answer, so it is there.
                answer.send(command.spawn()).ok();
            }
        });
        Mutex::new(sender)
    });
    let (answer, receiver) = mpsc::channel();
    let sent = spawner.lock().unwrap_or_else(std::sync::PoisonError::into_inner).send((command, answer));
    sent.map_err(|_| std::io::Error::other("the thread that starts processes has ended"))?;
    receiver.recv().map_err(|_| std::io::Error::other("the thread that starts processes has ended"))?
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}
