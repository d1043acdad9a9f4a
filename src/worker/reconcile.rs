//! Sets right what statements past the triggers (a restore, a replica role) left wrong.

use std::time::Duration;

use sqlx::PgPool;

use super::{Duty, Outcome};

/// See the [module](self).
#[derive(Debug)]
pub struct Reconcile {
    pool: PgPool,
}

impl Reconcile {
    /// For the database behind the pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl Duty for Reconcile {
    const NAME: &'static str = "reconcile";
    const LISTENS: bool = false;

    fn every(&self) -> Duration {
        Duration::from_secs(300)
    }

    async fn tick(&self) -> sqlx::Result<Outcome> {
        let changed = sqlx::query_scalar::<_, i64>("select chat.reconcile()")
            .persistent(false)
            .fetch_one(&self.pool)
            .await?;
        Ok(changed.into())
    }
}
