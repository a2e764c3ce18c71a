//! The engine's tests, one binary: stories, the cost of events, fairness, and random lives against a plain twin.

mod budgets;
mod egress;
mod elastic;
mod explaining;
mod fairness;
mod forecasting;
mod interrupting;
mod learning;
mod lending;
mod moving;
mod overdue;
mod placing;
mod properties;
mod reclaiming;
mod refusal;
mod sharing;
mod sizes;
mod spanning;
mod speeds;
mod surplus;
mod thresholds;
mod topology;
mod twin;
mod waiting;
mod water_fill;
mod world;
