//! Whether the stream includes what policies read.
//!
//! Postgres looks publications up as they were when a change was written. So one that was made after what is still to
//! be read ends the stream, and so does one that contradicts another. Then the stream goes on without it, and takes it
//! up again behind that place.

use std::time::{Duration, Instant};

use pgwire_replication::Lsn;
use sqlx::PgPool;

/// Pauses before what failed is tried again, doubling.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(600);

/// Whether it does, and when it may again.
#[derive(Debug, Default)]
pub struct Watch {
    /// Whether it does now.
    pub on: bool,
    failures: u32,
    failed: Option<Failed>,
    /// Whether it was said that it cannot.
    told: bool,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    /// Where the log ended when the stream was opened without it.
    end: Option<Lsn>,
}

impl Watch {
    /// Decides for a stream that is about to be opened; the log ends at `end`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin(&mut self, pool: &PgPool, end: Lsn) -> sqlx::Result<bool> {
        let sql = include_str!("../../../../../sql/gateway/realtime_watch.sql");
        let possible: bool = sqlx::query_scalar(sql).fetch_one(pool).await?;
        if !possible && !self.told {
            self.told = true;
            tracing::info!(
                "the publication and event triggers that tell what policies read are not there: who may see a change is \
                 asked for every change"
            );
        }
        self.on = possible && self.is_due();
        match &mut self.failed {
            Some(failed) if possible && !self.on => failed.end = Some(end),
            failed => *failed = None,
        }
        Ok(self.on)
    }

    /// The stream could not include it.
    pub fn fail(&mut self) {
        self.on = false;
        self.failures += 1;
        self.failed = Some(Failed {
            at: Instant::now(),
            end: None,
        });
    }

    /// Whether a stream that does without has come to where it need not.
    pub fn is_over(&self, position: Lsn) -> bool {
        !self.on
            && self.is_due()
            && self
                .failed
                .as_ref()
                .and_then(|failed| failed.end)
                .is_some_and(|end| position >= end)
    }

    fn is_due(&self) -> bool {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.saturating_sub(1)).min(600);
        self.failed
            .as_ref()
            .is_none_or(|failed| failed.end.is_some() && failed.at.elapsed() >= pause.min(LAST_PAUSE))
    }
}
