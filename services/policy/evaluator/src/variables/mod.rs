//! Variables: what `{{ … }}` in a rule stands for, and where the values come from.
//!
//! A text is read once ([`Template`]); what stands in it is asked for while an object is judged ([`Context`]).

mod answers;
mod context;
mod entry;
mod images;
mod reference;
mod template;

pub use answers::Answers;
pub use context::Context;
pub use entry::{Entries, Entry};
pub use reference::with_references;
pub use template::Template;

/// Variables put into one text, those that come out of other variables included.
pub const MAX_SUBSTITUTIONS: usize = 100;
/// The longest text that variables may make.
pub const MAX_TEXT_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
