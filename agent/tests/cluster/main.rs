//! The agent against a simulated cluster, without a hub: what it writes, heals, moves, removes and says.

mod apply;
mod harness;
mod heal;
mod live;
mod routes;
mod runs;
