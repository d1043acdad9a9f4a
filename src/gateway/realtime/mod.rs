//! `/realtime/v1`: Supabase Realtime. Changes of the database, broadcasts and presence over websockets.
//!
//! | path | what |
//! | --- | --- |
//! | `/websocket` | the channels: [`socket`], [`writer`], [`channel`], frames in [`protocol`] |
//! | `/api/broadcast` | broadcasts over HTTP: [`api`], [`batch`] |
//!
//! - [`changes`] row changes from the write-ahead log to those who subscribed and may see them
//! - [`join`] what a channel is joined with
//! - [`hub`] who is on which topic: broadcasts ([`broadcast`]), presence ([`presence`]); [`cluster`] the other gateways;
//!   [`messages`] broadcasts from the database, [`replay`] those of before
//! - [`authorize`] private channels; [`token`] whom a token speaks for
//! - [`listener`] and [`outbox`] the way to a socket, [`delivery`] what is known to have arrived
//! - [`settings`] how much a client may ask for: [`limit`] how often, [`place`] how many

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Query, State, WebSocketUpgrade, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;

use super::{Context, answers::Answers, keys::Keys};
use crate::shutdown::Shutdown;
use authorize::Authorizer;
use changes::Changes;
pub use changes::policy;
use cluster::Cluster;
use error::HandshakeError;
use hub::Hub;
use limit::PerAddress;
use place::{Address, Places};
use protocol::Version;
use token::Token;

mod api;
mod authorize;
mod batch;
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
mod place;
mod presence;
mod protocol;
mod replay;
mod settings;
mod socket;
mod token;
mod writer;

pub use settings::Settings;

/// A frame or request body larger than this is refused, in bytes.
const MAX_FRAME: usize = 5_000_000;

/// What a socket holds to read into, in bytes; larger frames get more. Idle or not, each of thousands has it, and every
/// read clears it first.
const READ_BUFFER: usize = 2 << 10;
/// What is gathered to be written at once, in bytes; a socket keeps as much once it has needed it.
const WRITE_BUFFER: usize = 8 << 10;

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
    places: Arc<Places>,
    answers: Arc<Answers>,
    /// Broadcasts over HTTP.
    posts: PerAddress,
}

/// The service's routes, without the prefix `/realtime/v1`.
///
/// # Errors
/// When the database's settings cannot be used.
#[expect(clippy::unused_async, reason = "every service starts the same way")]
pub async fn router(context: Context, settings: Settings, answers: Arc<Answers>) -> anyhow::Result<Router> {
    let node = settings.node.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}/{}", host.trim(), context.public_url)
    });
    let hub = Arc::new(Hub::default());
    let (late, stop) = (Arc::clone(&hub), context.shutdown.clone());
    context.shutdown.spawn(async move { late.tell_late(stop).await });
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
        places: Places::new(settings.max_sockets, settings.max_sockets_per_address),
        posts: PerAddress::new(settings.posts_per_second),
        answers,
        settings,
        keys: context.keys,
        hub,
        cluster: Arc::clone(changes.cluster()),
        changes,
        authorizer: Authorizer::new(&context.database)?,
        shutdown: context.shutdown,
    });
    Ok(Router::new()
        .route("/websocket", get(websocket))
        .route("/api/broadcast", post(api::broadcast_batch))
        .route("/api/broadcast/{topic}/events/{event}", post(api::broadcast_one))
        .route("/api/ping", get(api::ping))
        .layer(DefaultBodyLimit::max(MAX_FRAME))
        .with_state(service))
}

/// What a query says: websockets of browsers have no headers of their own.
#[derive(Debug, Default, Deserialize)]
struct Params {
    apikey: Option<String>,
    vsn: Option<String>,
}

impl Params {
    /// The key a socket is opened with: `x-api-key`, else the query's, else `Authorization`.
    fn key(&self, headers: &HeaderMap) -> Option<String> {
        let key = header_text(headers, "x-api-key").or(self.apikey.as_deref());
        key.or_else(|| bearer(headers))
            .map(str::to_owned)
            .filter(|key| !key.is_empty())
    }

    /// Whom a request over HTTP speaks for: `Authorization` before the key, which clients send beside it.
    fn token(&self, headers: &HeaderMap) -> Option<String> {
        let key = || header_text(headers, "x-api-key").or(self.apikey.as_deref());
        bearer(headers)
            .or_else(key)
            .map(str::to_owned)
            .filter(|token| !token.is_empty())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = header_text(headers, header::AUTHORIZATION.as_str())?;
    Some(value.strip_prefix("Bearer ").unwrap_or(value))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

async fn websocket(
    State(service): State<Arc<Service>>,
    query: Result<Query<Params>, QueryRejection>,
    address: Address,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, HandshakeError> {
    let params = query.map(|Query(params)| params).unwrap_or_default();
    let version = Version::parse(params.vsn.as_deref()).ok_or(HandshakeError::Version)?;
    let text = params.key(&headers).ok_or(HandshakeError::NoKey)?;
    let token = Token::verify(&service.keys, &text).map_err(HandshakeError::Token)?;
    let place = service.places.take(address).ok_or(HandshakeError::TooManySockets)?;
    let agent = headers
        .get(header::USER_AGENT)
        .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    let handshake = socket::Handshake {
        version,
        token,
        agent: agent.unwrap_or_default(),
    };
    let upgrade = upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER);
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
