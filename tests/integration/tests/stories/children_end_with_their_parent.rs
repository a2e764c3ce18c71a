//! Whatever is started ends with whoever started it, however that ends.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster_integration_tests::process::{LEASH_ARGUMENT, Leash, Program};
use nix::sys::signal::kill;
use nix::unistd::Pid;

const LEASH: &str = env!("CARGO_BIN_EXE_leash");

fn is_alive(id: i32) -> bool {
    kill(Pid::from_raw(id), None).is_ok()
}

#[test]
fn a_process_that_is_dropped_is_gone() {
    let process = Program::new("sleeper", "sleep").argument("600").start(&Leash::new(LEASH)).unwrap();
    let id = process.id() as i32;
    assert!(is_alive(id));
    drop(process);
    assert!(!is_alive(id));
}

#[test]
fn a_child_dies_with_a_parent_that_is_killed() {
    // The shell is the parent: it starts a leashed sleeper, says its number, and waits.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("child");
    let script = format!(
        "'{LEASH}' {LEASH_ARGUMENT} SIGKILL - $$ sleep 600 & echo $! > '{}.new'; mv '{0}.new' '{0}'; wait",
        file.display()
    );
    let mut parent = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let child: i32 = loop {
        if let Ok(text) = std::fs::read_to_string(&file) {
            break text.trim().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "the child was not started");
        std::thread::sleep(Duration::from_millis(10));
    };
    // Until the leash has become the program, the kernel knows of no bond.
    let command = format!("/proc/{child}/comm");
    while std::fs::read_to_string(&command).unwrap().trim() != "sleep" {
        assert!(Instant::now() < deadline, "the leash did not become the program");
        std::thread::sleep(Duration::from_millis(10));
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
    while is_alive(child) {
        assert!(Instant::now() < deadline, "the child outlived its parent");
        std::thread::sleep(Duration::from_millis(10));
    }
}
