//! Logs: readable lines for a terminal, JSON for a collector.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr, filtered by `RUST_LOG` (default `info`).
pub fn start() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,pgwire_replication=warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let started = if terminal {
        subscriber.with_target(false).try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
    // A test harness may have started its own; then that one serves.
    drop(started);
}
