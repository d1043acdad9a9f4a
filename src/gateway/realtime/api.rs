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
    Params, Service,
    authorize::Extension,
    batch::Batch,
    broadcast::Broadcast,
    error::ChannelError,
    hub::Topic,
    place::Address,
    protocol::{Body, broadcast_object},
    token::Token,
};

/// Messages in one request.
const MAX_MESSAGES: usize = 1_000;

/// The query of the endpoint for one message.
#[derive(Debug, Deserialize)]
pub struct One {
    private: Option<String>,
    persist: Option<String>,
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
    /// More messages than an address may send.
    #[error("You have exceeded your rate limit")]
    TooOften,
    /// The body is no JSON.
    #[error("Bad Request")]
    Malformed,
    /// Fields that are wrong, with what is wrong.
    #[error("{0}")]
    Invalid(Value),
    /// A body of a type that is none of ours.
    #[error("Unsupported Media Type, use application/json or application/octet-stream")]
    ContentType,
    /// The database does not answer.
    #[error("Tenant database unavailable")]
    NoDatabase,
}

impl ApiError {
    fn field(name: &str, what: &str) -> Self {
        Self::Invalid(json!({ name: [what] }))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let said = self.to_string();
        let (status, body) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, json!({ "message": said })),
            Self::Forbidden => (StatusCode::FORBIDDEN, json!({ "message": said })),
            Self::TooMany | Self::TooManyRequests | Self::TooOften => {
                (StatusCode::TOO_MANY_REQUESTS, json!({ "message": said }))
            }
            Self::Malformed => (StatusCode::BAD_REQUEST, json!({ "errors": { "detail": said } })),
            Self::Invalid(errors) => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "errors": errors })),
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, json!({ "error": said })),
            Self::NoDatabase => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "message": said })),
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
    Query(params): Query<Params>,
    address: Address,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let token = token(&service, &headers, &params)?;
    let batch = Batch::read(&body).map_err(|_| ApiError::Malformed)?;
    let messages = batch
        .messages(service.settings.max_payload_bytes)
        .map_err(ApiError::Invalid)?;
    if messages.len() > MAX_MESSAGES {
        return Err(ApiError::TooMany);
    }
    count(&service, address, messages.len())?;
    // Before anybody has one of them.
    service.cluster.check()?;
    for message in messages {
        if may_write(&service, &token, &message.topic).await? {
            let payload = broadcast_object(&message.event, message.payload.get(), None);
            service
                .cluster
                .broadcast(&message.topic, None, Broadcast::Object(payload))?;
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
    Query(params): Query<Params>,
    Query(one): Query<One>,
    address: Address,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let token = token(&service, &headers, &params)?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = content_type.and_then(|value| value.split(';').next());
    let body = match kind.map(str::trim) {
        Some("application/octet-stream") => Body::Bytes(body),
        Some("application/json") => {
            let json: Box<RawValue> = serde_json::from_slice(&body).map_err(|_| ApiError::Malformed)?;
            Body::Json(json.get().to_owned())
        }
        _ => return Err(ApiError::ContentType),
    };
    if body.len() > service.settings.max_payload_bytes {
        return Err(ApiError::field("payload", "Payload size exceeds tenant limit"));
    }
    let topic = Topic {
        name: topic,
        private: one.private.as_deref() == Some("true"),
    };
    if one.persist.as_deref() == Some("true") && !topic.private {
        return Err(ApiError::field("persist", "can only be used on private channels"));
    }
    count(&service, address, 1)?;
    if !may_write(&service, &token, &topic).await? {
        return Err(ApiError::Forbidden);
    }
    service.cluster.check()?;
    service
        .cluster
        .broadcast(&topic, None, Broadcast::User { event, body })?;
    Ok(StatusCode::ACCEPTED)
}

fn token(service: &Service, headers: &HeaderMap, params: &Params) -> Result<Token, ApiError> {
    let text = params.token(headers).ok_or(ApiError::Unauthorized)?;
    Token::verify(&service.keys, &text).map_err(|_| ApiError::Unauthorized)
}

fn count(service: &Service, Address(address): Address, messages: usize) -> Result<(), ApiError> {
    let messages = u32::try_from(messages).unwrap_or(u32::MAX);
    if service.posts.take(address, messages) {
        Ok(())
    } else {
        Err(ApiError::TooOften)
    }
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
