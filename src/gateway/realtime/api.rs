//! Broadcasts over HTTP.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    Key, Service,
    authorize::Extension,
    broadcast::Broadcast,
    error::ChannelError,
    hub::Topic,
    protocol::{Body, broadcast_object},
    token::Token,
};

/// Messages in one request.
const MAX_MESSAGES: usize = 1_000;

/// What the batch endpoint takes.
#[derive(Debug, Deserialize)]
pub struct Batch {
    messages: Vec<Message>,
}

#[derive(Debug, Deserialize)]
struct Message {
    topic: String,
    event: String,
    payload: Box<RawValue>,
    #[serde(default)]
    private: bool,
}

/// The query of the endpoint for one message.
#[derive(Debug, Deserialize)]
pub struct One {
    private: Option<String>,
}

/// Why nothing is broadcast.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No token, or one that does not hold.
    #[error("Unauthorized")]
    Unauthorized,
    /// The policies do not let the caller write there.
    #[error("Unauthorized")]
    Forbidden,
    /// More messages than one request may have.
    #[error("Too many messages to broadcast, please reduce the batch size")]
    TooMany,
    /// More messages than can be passed on.
    #[error("Too many requests")]
    TooManyRequests,
    /// A field that is wrong, with what is wrong.
    #[error("{0} {1}")]
    Invalid(&'static str, &'static str),
    /// A body of a type that is none of ours.
    #[error("Unsupported content type, use application/json or application/octet-stream")]
    ContentType,
    /// The database does not answer.
    #[error("Realtime was unable to connect to the project database")]
    NoDatabase,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let message = json!({ "message": self.to_string() });
        let (status, body) = match &self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, message),
            Self::Forbidden => (StatusCode::FORBIDDEN, message),
            Self::TooMany | Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, message),
            Self::Invalid(field, what) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                json!({ "errors": { *field: [what] } }),
            ),
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, json!({ "error": self.to_string() })),
            Self::NoDatabase => (StatusCode::SERVICE_UNAVAILABLE, message),
        };
        (status, Json(body)).into_response()
    }
}

impl From<ChannelError> for ApiError {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::TooManyMessages => Self::TooManyRequests,
            // The only other thing that asking for rights or passing a message on can fail with.
            _ => Self::NoDatabase,
        }
    }
}

/// `POST /api/broadcast`: many messages. Private ones that the caller may not write are left out in silence.
///
/// # Errors
/// An [`ApiError`].
pub async fn broadcast_batch(
    State(service): State<Arc<Service>>,
    Query(key): Query<Key>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let token = token(&service, &headers, &key)?;
    let batch: Batch = serde_json::from_slice(&body)
        .map_err(|_| ApiError::Invalid("messages", "must be a list of topic, event and payload"))?;
    if batch.messages.len() > MAX_MESSAGES {
        return Err(ApiError::TooMany);
    }
    for message in &batch.messages {
        if message.topic.is_empty() {
            return Err(ApiError::Invalid("topic", "can't be blank"));
        }
        if message.event.is_empty() {
            return Err(ApiError::Invalid("event", "can't be blank"));
        }
        if !message.payload.get().starts_with('{') {
            return Err(ApiError::Invalid("payload", "is invalid"));
        }
        if message.payload.get().len() > service.settings.max_payload_bytes {
            return Err(ApiError::Invalid("payload", "Payload size exceeds tenant limit"));
        }
    }
    // Before anybody has one of them.
    service.cluster.check()?;
    for message in batch.messages {
        let topic = Topic {
            name: message.topic,
            private: message.private,
        };
        if may_write(&service, &token, &topic).await? {
            let payload = broadcast_object(&message.event, message.payload.get(), None);
            service.cluster.broadcast(&topic, None, Broadcast::Object(payload))?;
        }
    }
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/broadcast/{topic}/events/{event}`: one message, JSON of any form or bytes.
///
/// # Errors
/// An [`ApiError`].
pub async fn broadcast_one(
    State(service): State<Arc<Service>>,
    Path((topic, event)): Path<(String, String)>,
    Query(key): Query<Key>,
    Query(one): Query<One>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let token = token(&service, &headers, &key)?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if body.len() > service.settings.max_payload_bytes {
        return Err(ApiError::Invalid("payload", "Payload size exceeds tenant limit"));
    }
    let body = match kind {
        "application/octet-stream" => Body::Bytes(body),
        "application/json" => {
            let valid = serde_json::from_slice::<Box<RawValue>>(&body);
            Body::Json(
                valid
                    .map_err(|_| ApiError::Invalid("payload", "is invalid"))?
                    .get()
                    .to_owned(),
            )
        }
        _ => return Err(ApiError::ContentType),
    };
    let topic = Topic {
        name: topic,
        private: one.private.as_deref() == Some("true"),
    };
    if !may_write(&service, &token, &topic).await? {
        return Err(ApiError::Forbidden);
    }
    service.cluster.check()?;
    service
        .cluster
        .broadcast(&topic, None, Broadcast::User { event, body })?;
    Ok(StatusCode::ACCEPTED)
}

fn token(service: &Service, headers: &HeaderMap, key: &Key) -> Result<Token, ApiError> {
    let text = key.find(headers).ok_or(ApiError::Unauthorized)?;
    Token::verify(&service.keys, &text).map_err(|_| ApiError::Unauthorized)
}

async fn may_write(service: &Service, token: &Token, topic: &Topic) -> Result<bool, ApiError> {
    if !topic.private {
        return Ok(true);
    }
    let asked = service
        .authorizer
        .may_write(&token.identity, &topic.name, Extension::Broadcast);
    Ok(asked.await?)
}

/// `GET /api/ping`: somebody is here.
pub async fn ping() -> Json<Value> {
    Json(json!({ "message": "Success" }))
}
