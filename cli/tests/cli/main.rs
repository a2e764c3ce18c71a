//! The command as scripts use it: the real program against services that say what a test tells them to.

mod answers;
mod apply;
mod events;
mod offline;
mod policy;
mod support;
mod waiting;
