//! Why a socket or a channel is refused, in Supabase's words.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::token::TokenError;

/// Why a socket is not opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// No key in header or query.
    #[error("API key is missing")]
    NoKey,
    /// The key is none of ours, or its time is over.
    #[error("{}", if matches!(.0, TokenError::Expired(_)) { "Token has expired".to_owned() } else { .0.to_string() })]
    Token(TokenError),
    /// A protocol version that does not exist.
    #[error("Unsupported protocol version, use vsn 1.0.0 or 2.0.0")]
    Version,
    /// The gateway holds as many sockets as it may.
    #[error("Too many connected users")]
    TooManySockets,
}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoKey | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::Version => StatusCode::BAD_REQUEST,
            Self::TooManySockets => StatusCode::TOO_MANY_REQUESTS,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

/// Why a channel cannot be joined or kept. Shown in a join's reply with the code before it, in a `system` message
/// without.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChannelError {
    /// The topic is `realtime:` and nothing.
    #[error("You must provide a topic name")]
    NoTopic,
    /// The token does not hold.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A private channel whose policies let the caller read nothing.
    #[error("You do not have permissions to read from this Channel topic: {0}")]
    Forbidden(String),
    /// A private channel that the caller may not write to.
    #[error("You do not have permissions to write to this Channel topic: {0}")]
    WriteForbidden(String),
    /// The same as the first, for a channel that could be read until now.
    #[error("You no longer have permission to read from this Channel topic: {0}")]
    NoLongerAllowed(String),
    /// More channels than a socket may have.
    #[error("Too many channels")]
    TooManyChannels,
    /// More joins than a socket may ask for.
    #[error("Too many joins per second")]
    TooManyJoins,
    /// More changes than a channel may ask for.
    #[error("Too many postgres_changes, at most {0} are allowed on a channel")]
    TooManyChanges(usize),
    /// More messages than a socket may send.
    #[error("Too many messages per second")]
    TooManyMessages,
    /// More messages of presence than a socket may send.
    #[error("Too many presence messages per second")]
    TooManyPresences,
    /// More messages of presence than a channel may send.
    #[error("Client presence rate limit exceeded")]
    TooManyPresenceCalls,
    /// What is said of a presence is too long.
    #[error("Track message size exceeded")]
    TrackTooLarge,
    /// Changes that a client wanted to wait for and cannot have, and why not.
    #[error("{0}")]
    Unsubscribed(String),
    /// Changes that did not start to flow within as many milliseconds as a client wanted to wait.
    #[error("Timed out after {0}ms waiting for the postgres_changes subscription")]
    SubscribeTimeout(u128),
    /// Messages of before that are not sent, and why.
    #[error("{0}")]
    Replay(&'static str),
    /// The database does not answer, or the stream of its changes does not flow.
    #[error("Realtime was unable to connect to the project database")]
    NoDatabase,
}

impl ChannelError {
    /// What a join's reply says.
    pub fn reason(&self) -> String {
        let code = match self {
            Self::NoTopic => "TopicNameRequired",
            Self::Token(error) => error.code(),
            Self::Forbidden(_) | Self::WriteForbidden(_) | Self::NoLongerAllowed(_) => "Unauthorized",
            Self::TooManyChannels | Self::TooManyChanges(_) => "ChannelRateLimitReached",
            Self::TooManyJoins => "ClientJoinRateLimitReached",
            Self::TooManyMessages => "MessagesRateLimitReached",
            Self::TooManyPresences | Self::TooManyPresenceCalls => "ClientPresenceRateLimitReached",
            Self::TrackTooLarge => "TrackMessageSizeExceeded",
            Self::Unsubscribed(_) => "RealtimeDisabledForConfiguration",
            Self::SubscribeTimeout(_) => "PostgresChangesSubscribeTimeout",
            Self::Replay(_) => "UnableToReplayMessages",
            Self::NoDatabase => "UnableToConnectToProject",
        };
        format!("{code}: {self}")
    }
}
