//! The loop that duties share.

use std::{
    collections::BTreeSet,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};

use super::wake::Wake;
use crate::{health::Part, metrics, shutdown::Shutdown};

/// How long one tick may take before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// After so many calls the tick ends, and the next begins soon.
const AT_ONCE: u32 = 500;

/// A duty that rests does so for so many times what it worked: it fills at most a fifth of the time.
const SHARE: u32 = 4;

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

impl Outcome {
    fn count(&self) -> u64 {
        match *self {
            Self::Idle => 0,
            Self::Done(count) => count,
        }
    }
}

impl From<i64> for Outcome {
    fn from(count: i64) -> Self {
        match u64::try_from(count) {
            Ok(count) if count > 0 => Self::Done(count),
            _ => Self::Idle,
        }
    }
}

/// Something to be done again and again: a function of the database that does what is due, leaves alone what another
/// worker is just doing, and returns how much it did.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// Its name in logs, metrics and health.
    pub name: &'static str,
    /// One statement that returns one bigint: how many things were done.
    pub statement: &'static str,
    /// The longest time from one tick to the next; none: as often as the worker polls.
    pub every: Option<Duration>,
    /// The shortest time from one tick to the next: what happens meanwhile is done together. One that rests does so for
    /// [`SHARE`] times what it worked, so that it never fills the time.
    pub rest: Duration,
    /// Whether the database's notifications wake it.
    pub listens: bool,
    /// Whether a tick calls the function until nothing is left. Each call is a transaction of its own, so that none is
    /// long and none waits for another's locks with its own in hand.
    pub repeats: bool,
}

impl Duty {
    /// Does what is due, though not endlessly: a long backlog is worked off over several ticks.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses; the next tick tries again.
    pub async fn tick(&self, pool: &PgPool) -> sqlx::Result<Outcome> {
        let mut done = 0;
        for _ in 0..if self.repeats { AT_ONCE } else { 1 } {
            let count = sqlx::query_scalar::<_, i64>(self.statement)
                .persistent(false) // a transaction pooler gives each statement another session
                .fetch_one(pool)
                .await?;
            if count == 0 {
                break;
            }
            done += count;
        }
        Ok(done.into())
    }

    fn rest_after(&self, worked: Duration) -> Duration {
        if self.rest.is_zero() {
            self.rest
        } else {
            self.rest.max(worked * SHARE)
        }
    }
}

/// What a loop repeats.
pub(super) trait Work: Sync {
    /// Why it could not be done this time.
    type Error: Display;

    /// One tick.
    fn work(&self, pool: &PgPool) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;
}

impl Work for Duty {
    type Error = sqlx::Error;

    fn work(&self, pool: &PgPool) -> impl Future<Output = sqlx::Result<Outcome>> + Send {
        self.tick(pool)
    }
}

/// What the loops of one worker have in common.
pub(super) struct Crew {
    pool: PgPool,
    poll: Duration,
    shutdown: Shutdown,
    wake: Wake,
    health: Part,
    failing: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Crew {
    /// Duties look at least once in `poll`, or as often as they say.
    pub(super) fn new(pool: PgPool, poll: Duration, shutdown: Shutdown, wake: Wake, health: Part) -> Self {
        health.ready();
        Self {
            pool,
            poll,
            shutdown,
            wake,
            health,
            failing: Arc::default(),
        }
    }

    /// Ticks until the process is asked to stop: when woken, and at the latest after [`Duty::every`].
    pub(super) async fn repeat(&self, duty: &Duty) {
        self.repeat_with(duty, duty).await;
    }

    /// The same with ticks that are more than the duty's statement.
    pub(super) async fn repeat_with(&self, duty: &Duty, work: &impl Work) {
        let mut woken = self.wake.subscribe();
        let every = duty.every.unwrap_or(self.poll);
        let mut failures = 0;
        while !self.shutdown.token().is_cancelled() {
            // interest first, then the look: what comes during the tick wakes the next one
            woken.borrow_and_update();
            let started = Instant::now();
            let result = match timeout(PATIENCE, work.work(&self.pool)).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("it took too long".to_owned()),
            };
            let worked = started.elapsed();
            metrics::duty_ran(duty.name, worked, result.as_ref().map(Outcome::count).map_err(drop));
            let pause = match result {
                Ok(outcome) => {
                    failures = 0;
                    self.succeeded(duty.name);
                    if let Outcome::Done(count) = outcome {
                        let duration_ms = worked.as_millis();
                        tracing::debug!(duty = duty.name, count, duration_ms, "did a duty");
                    }
                    let full = matches!(outcome, Outcome::Done(count) if count >= AT_ONCE.into());
                    if full && duty.repeats && duty.rest.is_zero() {
                        continue; // there is more
                    }
                    jittered(every)
                }
                Err(error) => {
                    failures += 1;
                    let pause = jittered(backoff(failures));
                    self.failed(duty.name, &error, pause);
                    pause
                }
            };

            let rest = if failures == 0 { duty.rest_after(worked) } else { pause };
            let waiting = async {
                sleep(rest).await;
                if duty.listens && failures == 0 {
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

    fn failed(&self, duty: &'static str, error: &str, pause: Duration) {
        let retry_ms = pause.as_millis();
        tracing::warn!(duty, error, retry_ms, "a duty failed and is tried again");
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
    fn who_rests_rests_longer_after_more_work() {
        let second = Duration::from_secs(1);
        let duty = |rest| Duty {
            rest,
            ..crate::worker::duties::POSITIONS
        };
        assert_eq!(duty(second).rest_after(second / 10), second);
        assert_eq!(duty(second).rest_after(second), second * 4);
        assert_eq!(duty(Duration::ZERO).rest_after(second), Duration::ZERO);
    }

    #[test]
    fn nothing_done_is_idle() {
        assert_eq!(Outcome::from(0), Outcome::Idle);
        assert_eq!(Outcome::from(3), Outcome::Done(3));
    }
}
