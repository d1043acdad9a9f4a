//! `/realtime/v1`: Supabase Realtime. Changes of the database, broadcasts and presence over websockets.
//!
//! | path | what |
//! | --- | --- |
//! | `/websocket` | the channels: [`socket`], [`channel`], frames in [`protocol`] |
//! | `/api/broadcast` | broadcasts over HTTP: [`api`] |
//!
//! - [`changes`] row changes from the write-ahead log to those who subscribed and may see them
//! - [`join`] what a channel is joined with
//! - [`hub`] who is on which topic: broadcasts ([`broadcast`]), presence ([`presence`]); [`cluster`] the other gateways;
//!   [`messages`] broadcasts from the database, [`replay`] those of before
//! - [`authorize`] private channels; [`token`] whom a token speaks for
//! - [`listener`] and [`outbox`] the way to a socket, [`delivery`] what is known to have arrived; [`limit`] how often

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Query, State, WebSocketUpgrade, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;

use super::{Context, keys::Keys};
use crate::shutdown::Shutdown;
use authorize::Authorizer;
use changes::Changes;
use cluster::Cluster;
use error::HandshakeError;
use hub::Hub;
use protocol::Version;
use token::Token;

mod api;
mod authorize;
mod broadcast;
mod changes;
mod channel;
mod cluster;
mod delivery;
mod error;
mod hub;
mod join;
mod limit;
mod listener;
mod messages;
mod outbox;
mod presence;
mod protocol;
mod replay;
mod socket;
mod token;

/// A frame or request body larger than this is refused, in bytes.
const MAX_FRAME: usize = 5_000_000;

/// How the service behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This gateway's own name among those that use the same Postgres server; without one the host's name and the
    /// public address make it. Of several of one name the later ones take others.
    pub node: Option<String>,
    /// How long a client that lost its connection may be away without missing a change.
    pub resume_window: Duration,
    /// Sockets at one time.
    pub max_sockets: usize,
    /// Channels of one socket.
    pub max_channels: usize,
    /// Joins a second of one socket, on average over ten.
    pub joins_per_second: u32,
    /// Messages a second from one socket, on average over ten.
    pub messages_per_second: u32,
    /// The largest payload of a broadcast, in bytes.
    pub max_payload_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: None,
            resume_window: Duration::from_secs(120),
            max_sockets: 10_000,
            max_channels: 100,
            joins_per_second: 100,
            messages_per_second: 500,
            max_payload_bytes: 3_000_000,
        }
    }
}

/// What sockets and requests share.
#[derive(Debug)]
struct Service {
    settings: Settings,
    keys: Arc<Keys>,
    hub: Arc<Hub>,
    cluster: Arc<Cluster>,
    changes: Arc<Changes>,
    authorizer: Authorizer,
    shutdown: Shutdown,
    sockets: AtomicUsize,
}

/// The service's routes, without the prefix `/realtime/v1`.
///
/// # Errors
/// When the database's settings cannot be used.
#[expect(clippy::unused_async, reason = "every service starts the same way")]
pub async fn router(context: Context, settings: Settings) -> anyhow::Result<Router> {
    let node = settings.node.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}/{}", host.trim(), context.public_url)
    });
    let hub = Arc::new(Hub::default());
    let health = context.health.part("realtime");
    let changes = Changes::start(
        &context.database,
        &node,
        Arc::clone(&hub),
        settings.resume_window,
        health,
        &context.shutdown,
    )?;
    let service = Arc::new(Service {
        settings,
        keys: context.keys,
        hub,
        cluster: Arc::clone(changes.cluster()),
        changes,
        authorizer: Authorizer::new(&context.database)?,
        shutdown: context.shutdown,
        sockets: AtomicUsize::new(0),
    });
    Ok(Router::new()
        .route("/websocket", get(websocket))
        .route("/api/broadcast", post(api::broadcast_batch))
        .route("/api/broadcast/{topic}/events/{event}", post(api::broadcast_one))
        .route("/api/ping", get(api::ping))
        .layer(DefaultBodyLimit::max(MAX_FRAME))
        .with_state(service))
}

/// The API key in a query: websockets of browsers have no headers of their own.
#[derive(Debug, Default, Deserialize)]
struct Key {
    apikey: Option<String>,
    vsn: Option<String>,
}

impl Key {
    /// The key a request shows: `x-api-key`, else the query's, else `Authorization`.
    fn find(&self, headers: &HeaderMap) -> Option<String> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = header(header::AUTHORIZATION.as_str()).map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
        let key = header("x-api-key").or(self.apikey.as_deref()).or(bearer)?;
        Some(key.to_owned()).filter(|key| !key.is_empty())
    }
}

async fn websocket(
    State(service): State<Arc<Service>>,
    query: Result<Query<Key>, QueryRejection>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, HandshakeError> {
    let key = query.map(|Query(key)| key).unwrap_or_default();
    let version = Version::parse(key.vsn.as_deref()).ok_or(HandshakeError::Version)?;
    let text = key.find(&headers).ok_or(HandshakeError::NoKey)?;
    let token = Token::verify(&service.keys, &text).map_err(HandshakeError::Token)?;
    let place = Place::take(&service).ok_or(HandshakeError::TooManySockets)?;
    let agent = headers
        .get(header::USER_AGENT)
        .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    let handshake = socket::Handshake {
        version,
        token,
        agent: agent.unwrap_or_default(),
    };
    let upgrade = upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let stop = service.shutdown.token().clone();
        let tasks = service.shutdown.clone();
        // As a task of the service: stopping waits for its last frames.
        tasks.spawn(async move {
            socket::run(socket, service, handshake, stop).await;
            drop(place);
        });
    }))
}

/// One of the sockets there may be.
struct Place(Arc<Service>);

impl Place {
    fn take(service: &Arc<Service>) -> Option<Self> {
        let before = service.sockets.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(service));
        (before < service.settings.max_sockets).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}
