//! What monitoring reads of a service that stands in for PostgREST, under the names PostgREST has for it.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::catalog::watch::{Current, Loads};
use crate::{db::session::Pool, metrics::CONTENT_TYPE};

/// Where the figures are.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Sessions.
    pub(super) pool: Pool,
    /// What remembers tokens.
    pub(super) current: Current,
    /// Readings of the schema.
    pub(super) loads: Loads,
}

impl IntoResponse for Metrics {
    fn into_response(self) -> Response {
        let mut registry = Registry::with_prefix("pgrst");
        let pool = self.pool.status();
        let count = |sessions: usize| i64::try_from(sessions).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("db_pool_max", "Sessions at most", pool.max),
            ("db_pool_available", "Open sessions that nobody uses", pool.available),
            ("db_pool_waiting", "Requests that wait for a session", pool.waiting),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(count(value));
            registry.register(name, help, gauge);
        }
        let [lookups, hits, evictions] = self
            .current
            .get()
            .verifier
            .as_ref()
            .map(|verifier| verifier.counted())
            .unwrap_or_default();
        for (name, help, value) in [
            (
                "db_pool_timeouts",
                "Requests that waited for a session in vain",
                pool.timeouts,
            ),
            (
                "jwt_cache_requests",
                "Tokens looked for among those remembered",
                lookups,
            ),
            ("jwt_cache_hits", "Tokens found there", hits),
            ("jwt_cache_evictions", "Tokens forgotten to make room", evictions),
        ] {
            let counter: Counter = Counter::default();
            counter.inc_by(value);
            registry.register(name, help, counter);
        }
        let Loads { by_status, seconds } = self.loads;
        registry.register("schema_cache_loads", "Readings of the schema", by_status);
        let help = "How long the last reading of the schema took";
        registry.register("schema_cache_query_time_seconds", help, seconds);
        let mut text = String::new();
        match text::encode(&mut text, &registry) {
            Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => super::error::Error::internal(error.to_string()).into_response(),
        }
    }
}
