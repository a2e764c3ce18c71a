//! Room for readers that recurse: the grammars of the crates `cel` and `jmespath` take much stack for each level of a text,
//! more than the small stacks of worker threads have for texts within our own bounds.

use std::thread;

/// Enough for the deepest text that is let in, also in builds that are not optimised.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Does work on a stack of its own, of which only the used part is ever memory. `None` where no such stack is to be had,
/// or the work panics.
pub fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("reader".to_owned()).stack_size(STACK_BYTES);
        worker.spawn_scoped(scope, work).ok()?.join().ok()
    })
}
