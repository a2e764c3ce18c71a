//! The service on a real Postgres and real git repositories, its reconcilers turned by hand.

mod api;
mod leaving;
mod models;
mod releases;
mod stage;
mod verdicts;
