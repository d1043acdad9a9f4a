//! Broadcasts of before, sent to a channel that asks for them as it joins.

use serde_json::Value;
use sqlx::PgPool;

use super::{
    error::ChannelError,
    listener::Listener,
    protocol::{Body, broadcast_object},
};

/// Messages of one replay at most.
const MAX_MESSAGES: i64 = 25;

/// What a join asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Milliseconds since 1970.
    since: i64,
    limit: i64,
}

/// A broadcast of before.
#[derive(Debug)]
pub struct Message {
    id: String,
    event: Option<String>,
    payload: Option<String>,
    binary_payload: Option<Vec<u8>>,
}

type Row = (String, Option<String>, Option<String>, Option<Vec<u8>>);

impl From<Row> for Message {
    fn from((id, event, payload, binary_payload): Row) -> Self {
        Self {
            id,
            event,
            payload,
            binary_payload,
        }
    }
}

impl Replay {
    /// Reads `config.broadcast.replay`, if it is there.
    ///
    /// # Errors
    /// When it says nothing that makes sense, or the channel is not private.
    pub fn read(params: &Value, private: bool) -> Result<Option<Self>, ChannelError> {
        if params.is_null() {
            return Ok(None);
        }
        if !private {
            return Err(ChannelError::Replay("Replay is not allowed for public channels"));
        }
        // What is no object asks for nothing.
        if !params.is_object() {
            return Ok(None);
        }
        let number = |name: &str, default: i64| match &params[name] {
            Value::Null => Some(default),
            said => said.as_i64(),
        };
        match (number("since", 0), number("limit", MAX_MESSAGES)) {
            (Some(since), Some(limit)) => Ok(Some(Self {
                since,
                limit: limit.clamp(1, MAX_MESSAGES),
            })),
            _ => Err(ChannelError::Replay("Replay params are not valid")),
        }
    }

    /// The last messages of a private topic, oldest first.
    ///
    /// # Errors
    /// When the database does not give them.
    pub async fn messages(self, pool: &PgPool, topic: &str) -> Result<Vec<Message>, ChannelError> {
        let found: sqlx::Result<Vec<Row>> = sqlx::query_as(include_str!("../../../sql/gateway/realtime_replay.sql"))
            .bind(topic)
            .bind(self.since)
            .bind(self.limit)
            .fetch_all(pool)
            .await;
        match found {
            Ok(rows) => Ok(rows.into_iter().map(Message::from).collect()),
            Err(error) => {
                tracing::warn!(%error, "messages could not be replayed");
                Err(ChannelError::Replay("Realtime was unable to replay messages"))
            }
        }
    }
}

/// Sends messages of before. One that came meanwhile is not sent again.
pub fn send(listener: &Listener, messages: &[Message]) {
    for message in messages {
        let meta = format!("{{\"replayed\":true,\"id\":\"{}\"}}", message.id);
        let event = message.event.as_deref().unwrap_or_default();
        let (topic, version) = (&listener.topic, listener.version);
        let frame = match &message.binary_payload {
            Some(bytes) => version.broadcast(topic, event, &Body::Bytes(bytes.clone().into()), Some(&meta)),
            None => {
                let payload = message.payload.as_deref().unwrap_or("null");
                let object = broadcast_object(event, payload, Some(&meta));
                Some(version.text(None, None, topic, "broadcast", &object))
            }
        };
        // Bytes cannot be said in a text protocol.
        if let Some(frame) = frame {
            listener.send_message(frame, &message.id);
        }
    }
    listener.replayed();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_replay_is_read() {
        let read = |params| Replay::read(&params, true);
        let (since, limit) = (1_700_000_000_000, 3);
        assert_eq!(read(json!(null)), Ok(None));
        assert_eq!(
            read(json!({ "since": since, "limit": 3 })),
            Ok(Some(Replay { since, limit }))
        );
        let most = Replay { since, limit: 25 };
        assert_eq!(read(json!({ "since": since })), Ok(Some(most)));
        assert_eq!(read(json!({ "since": since, "limit": 1_000 })), Ok(Some(most)));
        let all = Replay { since: 0, limit: 25 };
        assert_eq!(read(json!({})), Ok(Some(all)));
        let one = Replay { since: 0, limit: 1 };
        assert_eq!(read(json!({ "limit": 0 })), Ok(Some(one)));
        assert_eq!(read(json!(true)), Ok(None));
        for bad in [json!({ "since": "now" }), json!({ "limit": 1.5 })] {
            assert!(read(bad).is_err());
        }
        assert!(Replay::read(&json!({ "since": since }), false).is_err());
    }
}
