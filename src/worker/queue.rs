//! Gives free seats to those who wait.
//!
//! Most get theirs without us: a start takes a free seat, and whoever frees one gives it to the head of the line, in
//! their own transactions. What is left is what no statement sees: an agent whom a session may be given again after a
//! time, a raised capacity, several seats at once.

use std::time::Duration;

use sqlx::PgPool;

use super::{Duty, Outcome};

/// After so many the tick ends, and the next begins soon: no transaction is long, nor is any tick.
const AT_ONCE: u64 = 500;

/// See the [module](self).
#[derive(Debug)]
pub struct Queue {
    pool: PgPool,
    poll: Duration,
}

impl Queue {
    /// Looks at least once in `poll`.
    pub fn new(pool: PgPool, poll: Duration) -> Self {
        Self { pool, poll }
    }
}

impl Duty for Queue {
    const NAME: &'static str = "queue";
    const LISTENS: bool = true;

    fn every(&self) -> Duration {
        self.poll
    }

    async fn tick(&self) -> sqlx::Result<Outcome> {
        for served in 0..AT_ONCE {
            // one session a transaction: two would wait for each other's agents
            let next = sqlx::query_scalar::<_, Option<uuid::Uuid>>("select chat.assign_next()")
                .persistent(false)
                .fetch_one(&self.pool)
                .await?;
            if next.is_none() {
                return Ok(if served == 0 {
                    Outcome::Idle
                } else {
                    Outcome::Done(served)
                });
            }
        }
        Ok(Outcome::Done(AT_ONCE))
    }
}
