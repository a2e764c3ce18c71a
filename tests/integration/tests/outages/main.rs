//! The stories that stop servers and processes: they run one after another, after all others.

fn main() {}
