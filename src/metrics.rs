//! What monitoring reads, in the OpenMetrics text format that Prometheus scrapes.
//!
//! What the desk is like comes from the database, in one statement a scrape: any replica tells the same. What this
//! process did (its duties) is counted here. It stands beside gateway and worker because those never name each other.
//!
//! `prometheus-client`, not the `metrics` facade with its exporter: the latencies of assignments are counted in the
//! database, and the facade has no way to pass a histogram's counts on.

use std::{
    fmt,
    sync::{Arc, LazyLock, atomic::AtomicU64},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use serde::Deserialize;
use sqlx::{PgPool, types::Json};
use subtle::ConstantTimeEq;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{
    config::Secret,
    db::{Database, Login},
};

/// How long the database may take to answer a scrape; Prometheus gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Scrapes within this time share an answer.
const FRESH: Duration = Duration::from_secs(1);
/// The media type of what is told.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type DutyLabel = [(&'static str, &'static str); 1];
type QueueLabels = [(&'static str, String); 2];

/// What this process's duties did.
#[derive(Debug, Default)]
struct Duties {
    runs: Family<DutyLabel, Counter>,
    errors: Family<DutyLabel, Counter>,
    done: Family<DutyLabel, Counter>,
    seconds: Family<DutyLabel, Counter<f64, AtomicU64>>,
}

static DUTIES: LazyLock<Duties> = LazyLock::new(Duties::default);

/// Counts one tick of a duty: how long it took, and how many things it did or that it failed.
pub fn duty_ran(duty: &'static str, took: Duration, done: Result<u64, ()>) {
    let label = [("duty", duty)];
    DUTIES.runs.get_or_create(&label).inc();
    DUTIES.seconds.get_or_create(&label).inc_by(took.as_secs_f64());
    // both from the start, so that the first failure is seen as a change
    let errors = DUTIES.errors.get_or_create_owned(&label);
    match done {
        Ok(count) => _ = DUTIES.done.get_or_create(&label).inc_by(count),
        Err(()) => _ = errors.inc(),
    }
}

/// How realtime knew whether a subscriber may see a change.
static VISIBILITY: LazyLock<Family<[(&'static str, &'static str); 1], Counter>> = LazyLock::new(Family::default);

/// Counts changes of which realtime remembered whether a subscriber may see them, and those that it asked Postgres about.
pub fn visibility_checked(remembered: u64, asked: u64) {
    for (from, count) in [("memory", remembered), ("postgres", asked)] {
        VISIBILITY.get_or_create(&[("from", from)]).inc_by(count);
    }
}

/// The desk as `chat.gauges()` tells it.
#[derive(Debug, Deserialize)]
struct Desk {
    queues: Vec<Queue>,
    agents_available: i64,
    seats: i64,
    seats_free: i64,
    typing: i64,
    assignments: u64,
    latencies: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    tenant: String,
    queue: String,
    waiting: i64,
    longest_wait_seconds: f64,
    active: i64,
}

/// Assignments that took up to `le` seconds, but longer than the bucket before; no `le`: without bound.
#[derive(Clone, Debug, Deserialize)]
struct Bucket {
    le: Option<f64>,
    assignments: u64,
    seconds: f64,
}

/// Answers scrapes.
#[derive(Clone, Debug)]
pub struct Scraper {
    pool: PgPool,
    last: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Scraper {
    /// Connects when first asked.
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.pool(Login::Owner, 1),
            last: Arc::default(),
        }
    }

    /// Everything there is to tell. A database that does not answer is `switchboard_up 0`, not an error.
    pub async fn scrape(&self) -> Response {
        let mut last = self.last.lock().await;
        let text = match &*last {
            Some((instant, text)) if instant.elapsed() < FRESH => text.clone(),
            _ => {
                let text = render(self.ask().await);
                *last = Some((Instant::now(), text.clone()));
                text
            }
        };
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
    }

    async fn ask(&self) -> Option<Desk> {
        let asked = sqlx::query_scalar::<_, Json<Desk>>("select chat.gauges()")
            .persistent(false) // a transaction pooler gives each statement another session
            .fetch_one(&self.pool);
        match timeout(PATIENCE, asked).await {
            Ok(Ok(Json(desk))) => Some(desk),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the database did not answer a scrape");
                None
            }
            Err(_) => {
                tracing::warn!("the database answered a scrape too late");
                None
            }
        }
    }
}

/// `GET /metrics` alone, for a port of its own. With a token, only for those who show it as their bearer.
pub fn router(scraper: Scraper, token: Option<Secret>) -> Router {
    let answer = async move |headers: HeaderMap| match &token {
        Some(token) if !shows(&headers, token) => StatusCode::UNAUTHORIZED.into_response(),
        _ => scraper.scrape().await,
    };
    Router::new().route("/metrics", get(answer))
}

fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .is_some_and(|shown| shown.as_bytes().ct_eq(token.expose().as_bytes()).into())
}

fn render(desk: Option<Desk>) -> String {
    let mut registry = Registry::with_prefix("switchboard");
    registry.register("duty_runs", "Ticks of a duty of this process", DUTIES.runs.clone());
    registry.register("duty_errors", "Ticks that failed", DUTIES.errors.clone());
    registry.register("duty_done", "Things that a duty did", DUTIES.done.clone());
    registry.register_with_unit("duty", "Time spent on a duty", Unit::Seconds, DUTIES.seconds.clone());
    registry.register(
        "realtime_visibility_checks",
        "Changes of rows judged for a subscriber",
        VISIBILITY.clone(),
    );
    gauge(
        &mut registry,
        "up",
        "Whether the database told what follows",
        i64::from(desk.is_some()),
    );
    if let Some(desk) = desk {
        describe(&mut registry, desk);
    }
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a string takes any text");
    text
}

fn describe(registry: &mut Registry, desk: Desk) {
    let waiting = Family::<QueueLabels, Gauge>::default();
    let longest = Family::<QueueLabels, Gauge<f64, AtomicU64>>::default();
    let active = Family::<QueueLabels, Gauge>::default();
    for queue in desk.queues {
        let labels = [("tenant", queue.tenant), ("queue", queue.queue)];
        waiting.get_or_create(&labels).set(queue.waiting);
        longest.get_or_create(&labels).set(queue.longest_wait_seconds);
        active.get_or_create(&labels).set(queue.active);
    }
    registry.register("sessions_waiting", "Customers in line", waiting);
    registry.register_with_unit(
        "longest_wait",
        "Since the first in line joined it",
        Unit::Seconds,
        longest,
    );
    registry.register("sessions_active", "Chats with an agent", active);
    gauge(
        registry,
        "agents_available",
        "Agents who take chats",
        desk.agents_available,
    );
    gauge(registry, "seats", "Seats of available agents", desk.seats);
    gauge(
        registry,
        "seats_free",
        "Free seats of available agents",
        desk.seats_free,
    );
    gauge(registry, "typing", "People who are typing", desk.typing);
    let assignments = Counter::<u64>::default();
    assignments.inc_by(desk.assignments);
    registry.register("assignments", "Sessions given to an agent", assignments);
    registry.register_collector(Box::new(Latencies(desk.latencies)));
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// A histogram that the database keeps.
#[derive(Debug)]
struct Latencies(Vec<Bucket>);

impl Collector for Latencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let buckets: Vec<(f64, u64)> = self
            .0
            .iter()
            .map(|bucket| (bucket.le.unwrap_or(f64::INFINITY), bucket.assignments)) // the encoder adds them up
            .collect();
        encoder
            .encode_descriptor(
                "assignment_latency",
                "How long seat and customer were there for each other before they were brought together",
                Some(&Unit::Seconds),
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(
                self.0.iter().map(|bucket| bucket.seconds).sum(),
                self.0.iter().map(|bucket| bucket.assignments).sum(),
                &buckets,
                None,
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_down_is_told_and_nothing_else_of_it() {
        let text = render(None);
        assert!(text.contains("\nswitchboard_up 0\n"), "{text}");
        assert!(!text.contains("switchboard_seats"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let bucket = |le, assignments, seconds| Bucket {
            le,
            assignments,
            seconds,
        };
        let desk = Desk {
            queues: vec![Queue {
                tenant: String::new(),
                queue: "a \"b\"".to_owned(),
                waiting: 3,
                longest_wait_seconds: 1.5,
                active: 2,
            }],
            agents_available: 1,
            seats: 5,
            seats_free: 3,
            typing: 0,
            assignments: 7,
            latencies: vec![
                bucket(Some(0.001), 2, 0.002),
                bucket(Some(0.01), 3, 0.01),
                bucket(None, 1, 20.0),
            ],
        };
        let text = render(Some(desk));
        for line in [
            "switchboard_up 1",
            "switchboard_sessions_waiting{tenant=\"\",queue=\"a \\\"b\\\"\"} 3",
            "switchboard_longest_wait_seconds{tenant=\"\",queue=\"a \\\"b\\\"\"} 1.5",
            "switchboard_assignments_total 7",
            "switchboard_assignment_latency_seconds_bucket{le=\"0.001\"} 2",
            "switchboard_assignment_latency_seconds_bucket{le=\"0.01\"} 5",
            "switchboard_assignment_latency_seconds_bucket{le=\"+Inf\"} 6",
            "switchboard_assignment_latency_seconds_count 6",
            "switchboard_assignment_latency_seconds_sum 20.012",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
