//! What the endpoint for many broadcasts is sent, checked field by field: the answer names every message's own faults.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::hub::Topic;

const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

/// A body that is JSON.
#[derive(Debug)]
pub struct Batch(Option<Messages>);

#[derive(Debug, Deserialize)]
struct Messages {
    #[serde(default)]
    messages: Option<Box<RawValue>>,
}

/// A message as it came.
#[derive(Debug, Default, Deserialize)]
struct Sent {
    #[serde(default)]
    topic: Value,
    #[serde(default)]
    event: Value,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
    #[serde(default)]
    private: Value,
}

/// A message to broadcast.
#[derive(Debug)]
pub struct Message {
    /// Where to.
    pub topic: Topic,
    /// The user's event.
    pub event: String,
    /// A JSON object.
    pub payload: Box<RawValue>,
}

impl Batch {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn read(body: &[u8]) -> serde_json::Result<Self> {
        let json: &RawValue = serde_json::from_slice(body)?;
        Ok(Self(serde_json::from_str(json.get()).ok()))
    }

    /// The messages, each with a payload of at most so many bytes.
    ///
    /// # Errors
    /// The faults, by field.
    pub fn messages(self, max_payload_bytes: usize) -> Result<Vec<Message>, Value> {
        let sent = self.0.and_then(|batch| batch.messages);
        let sent = sent.ok_or_else(|| json!({ "messages": [BLANK] }))?;
        let sent: Vec<Box<RawValue>> =
            serde_json::from_str(sent.get()).map_err(|_| json!({ "messages": [INVALID] }))?;
        if sent.is_empty() {
            return Err(json!({ "messages": [BLANK] }));
        }
        let sent = sent.iter().map(|sent| serde_json::from_str(sent.get()));
        let sent: Vec<Sent> = sent
            .collect::<Result<_, _>>()
            .map_err(|_| json!({ "messages": [INVALID] }))?;
        let faults: Vec<Map<String, Value>> = sent.iter().map(|sent| sent.faults(max_payload_bytes)).collect();
        if faults.iter().any(|faults| !faults.is_empty()) {
            return Err(json!({ "messages": faults }));
        }
        Ok(sent.into_iter().filter_map(Sent::message).collect())
    }
}

impl Sent {
    fn faults(&self, max_payload_bytes: usize) -> Map<String, Value> {
        let text = |value: &Value| match value {
            Value::String(text) if !text.trim().is_empty() => None,
            Value::String(_) | Value::Null => Some(BLANK),
            _ => Some(INVALID),
        };
        let payload = match self.payload.as_deref().map(RawValue::get) {
            None | Some("null") => Some(BLANK),
            Some(json) if !json.starts_with('{') => Some(INVALID),
            Some(json) if json.len() > max_payload_bytes => Some("Payload size exceeds tenant limit"),
            Some(_) => None,
        };
        let private = self.private().is_none().then_some(INVALID);
        [
            ("topic", text(&self.topic)),
            ("event", text(&self.event)),
            ("payload", payload),
            ("private", private),
        ]
        .into_iter()
        .filter_map(|(name, fault)| Some((name.to_owned(), json!([fault?]))))
        .collect()
    }

    fn private(&self) -> Option<bool> {
        match &self.private {
            Value::Null => Some(false),
            Value::Bool(private) => Some(*private),
            Value::String(text) => match text.as_str() {
                "true" | "1" => Some(true),
                "false" | "0" | "" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn message(self) -> Option<Message> {
        let private = self.private()?;
        let (Value::String(name), Value::String(event)) = (self.topic, self.event) else {
            return None;
        };
        Some(Message {
            topic: Topic { name, private },
            event,
            payload: self.payload?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Message>, Value> {
        Batch::read(body.as_bytes()).unwrap().messages(20)
    }

    #[test]
    fn messages_are_read() {
        let sent = r#"{"messages": [{"topic": "t", "event": "e", "payload": {"a": 1}, "private": "true"},
            {"topic": "t", "event": "e", "payload": {}, "extra": 1}]}"#;
        let messages = read(sent).unwrap();
        assert_eq!(messages[0].payload.get(), r#"{"a": 1}"#);
        let private: Vec<bool> = messages.iter().map(|message| message.topic.private).collect();
        assert_eq!(private, [true, false]);
        assert!(Batch::read(b"{").is_err());
    }

    #[test]
    fn each_message_has_its_own_faults() {
        for blank in ["[]", "{}", "5", r#"{"messages": null}"#, r#"{"messages": []}"#] {
            assert_eq!(read(blank).unwrap_err(), json!({ "messages": [BLANK] }), "{blank}");
        }
        for invalid in [r#"{"messages": 5}"#, r#"{"messages": [5]}"#] {
            assert_eq!(
                read(invalid).unwrap_err(),
                json!({ "messages": [INVALID] }),
                "{invalid}"
            );
        }
        let sent = r#"{"messages": [{"topic": "t", "event": "e", "payload": {}}, {"topic": 5, "event": " "},
            {"topic": "t", "event": "e", "payload": [], "private": 7},
            {"topic": "t", "event": "e", "payload": {"long": "0123456789"}}]}"#;
        let faults = json!({ "messages": [
            {},
            { "topic": [INVALID], "event": [BLANK], "payload": [BLANK] },
            { "payload": [INVALID], "private": [INVALID] },
            { "payload": ["Payload size exceeds tenant limit"] },
        ]});
        assert_eq!(read(sent).unwrap_err(), faults);
    }
}
