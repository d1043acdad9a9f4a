//! Stops those who have not typed for long, as their tab is gone: the portal's dots have no end of their own.

use std::time::Duration;

use sqlx::PgPool;

use super::{Duty, Outcome};

/// See the [module](self).
#[derive(Debug)]
pub struct Typing {
    pool: PgPool,
}

impl Typing {
    /// For the database behind the pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl Duty for Typing {
    const NAME: &'static str = "typing";
    const LISTENS: bool = false;

    fn every(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn tick(&self) -> sqlx::Result<Outcome> {
        let changed = sqlx::query_scalar::<_, i64>("select chat.expire_typing()")
            .persistent(false)
            .fetch_one(&self.pool)
            .await?;
        Ok(changed.into())
    }
}
