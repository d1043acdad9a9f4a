//! Numbers the line, and tells those in it.
//!
//! When the head of the line leaves, everybody's place changes: a second's changes are written together, and a
//! customer hears of his place only now and then, and only when it got better.

use std::time::Duration;

use sqlx::PgPool;

use super::{Duty, Outcome};

/// See the [module](self).
#[derive(Debug)]
pub struct Places {
    pool: PgPool,
}

impl Places {
    /// For the database behind the pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl Duty for Places {
    const NAME: &'static str = "places";
    const LISTENS: bool = true;
    const REST: Duration = Duration::from_secs(1);

    fn every(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn tick(&self) -> sqlx::Result<Outcome> {
        // two statements: notices are made of the places that are written
        let mut changed = 0;
        for statement in ["select chat.refresh_positions()", "select chat.tell_places()"] {
            changed += sqlx::query_scalar::<_, i64>(statement)
                .persistent(false)
                .fetch_one(&self.pool)
                .await?;
        }
        Ok(changed.into())
    }
}
