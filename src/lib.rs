//! Switchboard: a live-chat backend that speaks Supabase's API.
//!
//! ```text
//!  portal (supabase-js) ── HTTP, websocket ──▶ gateway ── SQL as the caller's role ──▶ Postgres ◀── SQL ── worker
//!                                                 ▲                                      │
//!                                                 └────────── WAL (pgoutput) ────────────┘
//! ```
//!
//! Postgres is the only store and the only bus, and the chat's rules live in it (`supabase/migrations`). The
//! [`gateway`] serves the API and holds no chat rule; the [`worker`] does what no request can: time, queues,
//! clean-up. They never name each other, so that the worker runs alone beside a hosted Supabase. Dependence
//! runs one way: `main → cli → {gateway, worker, postgres} → db`.

pub mod cli;
pub mod config;
pub mod data_dir;
pub mod db;
pub mod gateway;
pub mod health;
pub mod metrics;
pub mod postgres;
pub mod shutdown;
pub mod telemetry;
pub mod worker;
