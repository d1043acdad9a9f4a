//! What tests stand on.
//!
//! - [`cluster`]: one throw-away Postgres for the run, and a database of its own for each test
//! - [`app`]: the gateway on such a database
//! - [`serve`]: the real binary, with an embedded Postgres of its own

#![allow(dead_code, reason = "not every test needs everything")]

use std::time::{Duration, Instant};

pub mod app;
pub mod cluster;
pub mod serve;

/// How long something that happens by itself may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until the condition holds; fails with what was waited for.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut condition: F) {
    let deadline = Instant::now() + SOON;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
