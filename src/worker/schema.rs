//! The wait for a database that has the chat's functions.

use sqlx::PgPool;
use tokio::time::sleep;

use super::duty::{backoff, jittered};
use crate::{health::Part, shutdown::Shutdown};

/// Resolves with true once the newest function that a duty calls is there, with false if asked to stop before.
pub(super) async fn wait(pool: &PgPool, shutdown: &Shutdown, health: &Part) -> bool {
    let mut failures = 0;
    loop {
        let found = sqlx::query_scalar::<_, bool>("select to_regprocedure('chat.retain()') is not null")
            .persistent(false)
            .fetch_one(pool)
            .await;
        let reason = match found {
            Ok(true) => return true,
            Ok(false) => "the database has no chat schema yet: run the migrations".to_owned(),
            Err(error) => {
                tracing::debug!(error = %error, "cannot look at the database");
                "the database cannot be reached".to_owned()
            }
        };
        if failures == 0 {
            tracing::info!(reason, "the worker waits");
        }
        health.failing(&reason);

        failures += 1;
        tokio::select! {
            () = shutdown.started() => return false,
            () = sleep(jittered(backoff(failures.min(4)))) => {}
        }
    }
}
