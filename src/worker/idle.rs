//! Ends chats in which nobody writes: a closed tab says no goodbye, and holds a seat.

use std::time::Duration;

use sqlx::PgPool;

use super::{Duty, Outcome};

/// After so many the tick ends: a long backlog is worked off over several.
const AT_ONCE: u64 = 500;

/// See the [module](self).
#[derive(Debug)]
pub struct Idle {
    pool: PgPool,
}

impl Idle {
    /// For the database behind the pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl Duty for Idle {
    const NAME: &'static str = "idle";
    const LISTENS: bool = false;

    fn every(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn tick(&self) -> sqlx::Result<Outcome> {
        let mut ended = 0;
        while ended < AT_ONCE {
            let session = sqlx::query_scalar::<_, Option<uuid::Uuid>>("select chat.end_idle()")
                .persistent(false)
                .fetch_one(&self.pool)
                .await?;
            if session.is_none() {
                break;
            }
            ended += 1;
        }
        Ok(if ended == 0 {
            Outcome::Idle
        } else {
            Outcome::Done(ended)
        })
    }
}
