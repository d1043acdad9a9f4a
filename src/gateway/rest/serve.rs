//! The order in which a request is looked at: the first thing wrong with it is what the client hears.

use std::convert::Infallible;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Limited};

use self::laps::Laps;
pub use self::{
    prepared::Memory,
    request::{Incoming, Work},
};
use super::{
    Verbosity,
    catalog::watch::{Current, Loads, Snapshot},
    error::{Error, Result},
    identity::Identity,
    openapi,
    parse::{
        path::{self, Resource},
        prefer::Prefer,
    },
};
use crate::db::session::Pool;

mod call;
mod laps;
mod prepared;
mod read;
mod request;
mod shape;
mod write;

/// What every request is given.
#[derive(Debug)]
pub struct App {
    /// Sessions.
    pub pool: Pool,
    /// The catalog and the settings.
    pub current: Current,
    /// Readings of the schema.
    pub loads: Loads,
    /// The address clients use.
    pub public_url: String,
    /// Bytes of a body at most.
    pub max_body: usize,
}

/// Answers a request.
pub async fn answer(app: &App, request: Request, prefix: &str) -> Response {
    let (parts, body) = request.into_parts();
    let snapshot = app.current.get();
    let settings = &snapshot.settings;
    let laps = Laps::start(settings.server_timing_enabled);
    let trace = settings.server_trace_header.as_ref();
    let traced = trace.and_then(|name| {
        let name = header::HeaderName::try_from(name).ok()?;
        let value = parts.headers.get(&name)?.clone();
        Some((name, value))
    });
    let mut response = match respond(app, &snapshot, &laps, &parts, prefix, body).await {
        Ok(mut response) => {
            laps.end("response");
            if parts.method == Method::HEAD {
                // Nobody knows how long what GET gives would be, and a length of 0 would be wrong.
                *response.body_mut() = Body::from_stream(stream::empty::<Result<Bytes, Infallible>>());
            }
            response
        }
        Err(mut error) => {
            error.brief = settings.client_error_verbosity == Verbosity::Minimal;
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    if let Some(timing) = laps.header().and_then(|laps| HeaderValue::try_from(laps).ok()) {
        headers.insert("server-timing", timing);
    }
    headers.extend(traced);
    response
}

async fn respond(
    app: &App,
    snapshot: &Snapshot,
    laps: &Laps,
    parts: &Parts,
    prefix: &str,
    body: Body,
) -> Result<Response> {
    let identity = Identity::of(&parts.headers, snapshot.verifier.as_deref(), &snapshot.settings);
    laps.end("jwt");
    let (identity, catalog) = match identity.and_then(|known| Ok((known, snapshot.catalog()?))) {
        Ok(known) => known,
        Err(error) => {
            discard(&parts.headers, body, app.max_body).await;
            return Err(error);
        }
    };
    // All of it, before anything else can be wrong: a client that is still sending when it is refused would find its
    // connection closed instead of the answer.
    let body = read_body(body, app.max_body).await;
    let path = match parts.uri.path().strip_prefix(prefix) {
        Some("") | None => "/",
        Some(path) => path,
    };
    let asked = resource(path, parts, snapshot).and_then(|asked| Ok((asked, body?)));
    laps.end("parse");
    let ((resource, schema), body) = asked?;
    let incoming = Incoming {
        app,
        laps,
        catalog,
        settings: &snapshot.settings,
        memory: &snapshot.memory,
        identity,
        path,
        prefer: Prefer::parse(&parts.headers),
        profile: profile(parts, snapshot, &schema),
        schema,
        parts,
        body,
    };
    match (&resource, &parts.method) {
        (_, &Method::OPTIONS) => incoming.options(&resource),
        (Resource::Root, _) => openapi::root(&incoming).await,
        (Resource::Relation(name), &Method::GET | &Method::HEAD) => incoming.read(name).await,
        (Resource::Relation(name), _) => incoming.write(name).await,
        (Resource::Function(name), _) => incoming.call(name).await,
    }
}

/// What the request is about, and in which schema.
fn resource(path: &str, parts: &Parts, snapshot: &Snapshot) -> Result<(Resource, String)> {
    let resource = path::parse(path)?;
    let schema = schema(parts, snapshot)?;
    check_method(&parts.method, &resource)?;
    Ok((resource, schema))
}

/// The schema that the request is about.
fn schema(parts: &Parts, snapshot: &Snapshot) -> Result<String> {
    let exposed = &snapshot.settings.db_schemas;
    let Some(wanted) = parts.headers.get(profile_header(&parts.method)) else {
        return Ok(exposed.first().cloned().unwrap_or_default());
    };
    let wanted = String::from_utf8_lossy(wanted.as_bytes()).into_owned();
    if exposed.contains(&wanted) {
        return Ok(wanted);
    }
    let hint = format!("Only the following schemas are exposed: {}", exposed.join(", "));
    Err(Error::new(
        StatusCode::NOT_ACCEPTABLE,
        "PGRST106",
        format!("Invalid schema: {wanted}"),
    )
    .hint(hint)
    .into())
}

fn profile_header(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => "accept-profile",
        _ => "content-profile",
    }
}

/// The schema, where the answer has to name it.
fn profile(parts: &Parts, snapshot: &Snapshot, schema: &str) -> Option<String> {
    let several = snapshot.settings.db_schemas.len() > 1;
    let asked = parts.headers.contains_key(profile_header(&parts.method));
    (several || asked).then(|| schema.to_owned())
}

fn check_method(method: &Method, resource: &Resource) -> Result<()> {
    let known = matches!(
        *method,
        Method::GET | Method::HEAD | Method::POST | Method::PATCH | Method::PUT | Method::DELETE | Method::OPTIONS
    );
    let refused = |code, message: String| Err(Error::new(StatusCode::METHOD_NOT_ALLOWED, code, message).into());
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match resource {
        Resource::Function(_) if known && !(reads || *method == Method::POST) => {
            refused("PGRST101", format!("Cannot use the {method} method on RPC"))
        }
        Resource::Root if !reads => refused("PGRST117", format!("Unsupported HTTP method: {method}")),
        _ if !known => refused("PGRST117", format!("Unsupported HTTP method: {method}")),
        _ => Ok(()),
    }
}

/// Lets a client that is refused finish, so that it hears why, without keeping what it sends. One that waits to be
/// told to go on sends nothing.
async fn discard(headers: &HeaderMap, body: Body, max: usize) {
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let mut frames = Limited::new(body, max);
    while let Some(Ok(_)) = frames.frame().await {}
}

async fn read_body(body: Body, max: usize) -> Result<Bytes> {
    to_bytes(body, max).await.map_err(|error| {
        // The limit is the only failure of a client that is still there to hear of it.
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = source {
            if error.is::<http_body_util::LengthLimitError>() {
                let message = format!("The request body is larger than {max} bytes");
                return Box::new(Error::new(StatusCode::PAYLOAD_TOO_LARGE, "PGRST102", message));
            }
            source = error.source();
        }
        Box::new(Error::bad("PGRST102", "The request body could not be read"))
    })
}

/// Header text as it is shown to SQL.
fn lossy(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}
