//! Plays random events against the engine and the plain twin of its tests: `cargo run --release -p muster-scheduler-engine --example
//! twin -- [EVENTS [SEED]]`, 10,000,000 unless told otherwise. It ends with a panic at the first decision that is wrong.

use std::io::Write;

#[path = "../tests/engine/twin.rs"]
mod twin;
#[path = "../tests/engine/world.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod world;

fn main() -> Result<(), std::num::ParseIntError> {
    let mut arguments = std::env::args().skip(1).map(|text| text.replace('_', "").parse::<u64>());
    let events = arguments.next().transpose()?.unwrap_or(10_000_000);
    let seed = arguments.next().transpose()?.unwrap_or(2024);
    twin::play(seed, events, &|done| {
        eprint!("\r{done} of {events}");
        // A terminal that can't be written to does not stop the play.
        drop(std::io::stderr().flush());
    });
    eprintln!("\r{events} of {events}");
    println!("{events} events from seed {seed}: the twin agrees");
    Ok(())
}
