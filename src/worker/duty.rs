//! The loop that duties share.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::wake::Wake;
use crate::{health::Part, shutdown::Shutdown};

/// How long one tick may take before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a tick did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was due.
    Idle,
    /// So many things were done.
    Done(u64),
}

impl From<i64> for Outcome {
    fn from(count: i64) -> Self {
        match u64::try_from(count) {
            Ok(count) if count > 0 => Self::Done(count),
            _ => Self::Idle,
        }
    }
}

/// Something to be done again and again.
pub trait Duty: Send + Sync {
    /// Its name in logs and health.
    const NAME: &'static str;

    /// Whether the database's notifications wake it.
    const LISTENS: bool;

    /// The shortest time from one tick to the next: what happens meanwhile is done together.
    const REST: Duration = Duration::ZERO;

    /// The longest time from one tick to the next.
    fn every(&self) -> Duration;

    /// Does what is due.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses; the next tick tries again.
    fn tick(&self) -> impl Future<Output = sqlx::Result<Outcome>> + Send;
}

/// What the loops of one worker have in common.
pub(super) struct Crew {
    shutdown: Shutdown,
    wake: Wake,
    health: Part,
    failing: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Crew {
    pub(super) fn new(shutdown: Shutdown, wake: Wake, health: Part) -> Self {
        health.ready();
        Self {
            shutdown,
            wake,
            health,
            failing: Arc::default(),
        }
    }

    /// Ticks until the process is asked to stop: when woken, and at the latest after [`Duty::every`].
    pub(super) async fn repeat<D: Duty>(&self, duty: D) {
        let mut woken = self.wake.subscribe();
        let mut failures = 0;
        while !self.shutdown.token().is_cancelled() {
            // interest first, then the look: what comes during the tick wakes the next one
            woken.borrow_and_update();
            let started = Instant::now();
            let result = match timeout(PATIENCE, duty.tick()).await {
                Ok(result) => result,
                Err(_) => Err(sqlx::Error::Protocol("the database did not answer in time".to_owned())),
            };
            let pause = match result {
                Ok(outcome) => {
                    failures = 0;
                    self.succeeded(D::NAME);
                    if let Outcome::Done(count) = outcome {
                        let duration_ms = started.elapsed().as_millis();
                        tracing::debug!(duty = D::NAME, count, duration_ms, "did a duty");
                    }
                    jittered(duty.every())
                }
                Err(error) => {
                    failures += 1;
                    let pause = jittered(backoff(failures));
                    self.failed(D::NAME, &error, pause);
                    pause
                }
            };

            let rest = if failures == 0 { D::REST } else { pause };
            let waiting = async {
                sleep(rest).await;
                if D::LISTENS && failures == 0 {
                    // an error means that nobody can wake us any more: then time does
                    if timeout(pause.saturating_sub(rest), woken.changed())
                        .await
                        .is_ok_and(|changed| changed.is_err())
                    {
                        sleep(pause).await;
                    }
                } else {
                    sleep(pause.saturating_sub(rest)).await;
                }
            };
            tokio::select! {
                () = self.shutdown.started() => {}
                () = waiting => {}
            }
        }
    }

    fn succeeded(&self, duty: &'static str) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.remove(duty) {
            tracing::info!(duty, "the duty succeeds again");
            if failing.is_empty() {
                self.health.ready();
            }
        }
    }

    fn failed(&self, duty: &'static str, error: &sqlx::Error, pause: Duration) {
        let retry_ms = pause.as_millis();
        tracing::warn!(duty, error = %error, retry_ms, "a duty failed and is tried again");
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).insert(duty);
        self.health.failing(&format!("{duty} fails; see the log"));
    }
}

/// The pause after so many failures in a row: half a second, doubled each time.
pub(super) fn backoff(failures: u32) -> Duration {
    (Duration::from_millis(250) * 2_u32.saturating_pow(failures.min(16))).min(LONGEST_PAUSE)
}

/// Up to a fifth more or less, so that replicas do not look all at once.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        assert_eq!(backoff(1), Duration::from_millis(500));
        assert_eq!(backoff(2), Duration::from_secs(1));
        assert_eq!(backoff(1_000_000), LONGEST_PAUSE);
    }

    #[test]
    fn nothing_done_is_idle() {
        assert_eq!(Outcome::from(0), Outcome::Idle);
        assert_eq!(Outcome::from(3), Outcome::Done(3));
    }
}
