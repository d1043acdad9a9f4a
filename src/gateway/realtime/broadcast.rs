//! What a client broadcasts, in the form it was sent.

use axum::extract::ws::Message;

use super::protocol::{Body, Version};

/// A broadcast.
#[derive(Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// The payload of a text frame, a JSON object that is passed on as it is.
    Object(String),
    /// Event and payload of a frame of its own kind.
    User {
        /// The user's event.
        event: String,
        /// The user's payload.
        body: Body,
    },
}

impl Broadcast {
    /// The frame for a receiver; `None` where its version cannot carry it.
    pub fn frame(&self, version: Version, topic: &str) -> Option<Message> {
        match self {
            Self::Object(payload) => Some(version.text(None, None, topic, "broadcast", payload)),
            Self::User { event, body } => version.broadcast(topic, event, body, None),
        }
    }

    /// The size of what was sent, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Object(text) => text.len(),
            Self::User { body, .. } => body.len(),
        }
    }
}
