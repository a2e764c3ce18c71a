//! The service on a real Postgres and real git repositories, its reconcilers turned by hand.

mod api;
mod models;
mod releases;
mod stage;
