//! The integration tests, in one binary: they share one Postgres (`support::cluster`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adoption;
mod cli;
mod clients;
mod commands;
mod database_url;
mod directions;
mod embedded;
mod metrics;
mod migrations;
mod realtime;
mod session;
mod stand_in;
mod support;
mod visibility;
mod worker;
