//! Frames of the Phoenix channel protocol, in the two versions that clients speak.
//!
//! | version | text | binary |
//! | --- | --- | --- |
//! | 1.0.0 | `{"topic", "event", "payload", "ref", "join_ref"}` | none |
//! | 2.0.0 | `[join_ref, ref, topic, event, payload]` | broadcasts: kind 3 (and 0) in, kind 4 out |

use axum::{
    body::Bytes,
    extract::ws::{Message, Utf8Bytes},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// A broadcast from a client, its payload of any form.
const USER_BROADCAST_PUSH: u8 = 3;
/// A broadcast to a client.
const USER_BROADCAST: u8 = 4;
/// Phoenix' own binary push, which no known client sends.
const PUSH: u8 = 0;

/// A protocol version, the query parameter `vsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 1.0.0, also when the parameter is absent.
    V1,
    /// 2.0.0, the default of realtime-js since 2.80.
    V2,
}

/// A message from a client.
#[derive(Debug)]
pub struct Frame {
    /// The `ref` of the join that made the channel.
    pub join_ref: Option<String>,
    /// What a reply repeats.
    pub reference: Option<String>,
    /// `realtime:` and the channel's name, or `phoenix`.
    pub topic: String,
    /// What it is.
    pub event: String,
    /// What it says.
    pub payload: Payload,
}

/// What a message says.
#[derive(Debug)]
pub enum Payload {
    /// JSON.
    Json(Box<RawValue>),
    /// A broadcast in a frame of its own kind; the frame's `event` is `broadcast`, the user's is here.
    Broadcast {
        /// The user's event.
        event: String,
        /// JSON text or bytes.
        body: Body,
    },
}

impl Payload {
    /// The JSON; null for a broadcast in a frame of its own kind.
    pub fn json(&self) -> Value {
        match self {
            Self::Json(json) => serde_json::from_str(json.get()).unwrap_or_default(),
            Self::Broadcast { .. } => Value::Null,
        }
    }
}

/// The payload of a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// JSON text, known to be well formed.
    Json(String),
    /// Bytes of the user's own.
    Bytes(Bytes),
}

impl Body {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// The frame cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed frame: {0}")]
pub struct Malformed(&'static str);

impl Version {
    /// The version a client asks for; `None` for one that does not exist.
    pub fn parse(vsn: Option<&str>) -> Option<Self> {
        match vsn {
            None | Some("1.0.0") => Some(Self::V1),
            Some("2.0.0") => Some(Self::V2),
            Some(_) => None,
        }
    }

    /// Reads a text frame.
    ///
    /// # Errors
    /// When it is not a message of this version.
    pub fn read_text(self, text: &str) -> Result<Frame, Malformed> {
        let malformed = |_| Malformed("not a message of this version");
        let (join_ref, reference, topic, event, payload) = match self {
            // An array would be read as the fields in their order.
            Self::V1 if !text.starts_with('{') => return Err(Malformed("not a message of this version")),
            Self::V1 => {
                let wire: WireV1 = serde_json::from_str(text).map_err(malformed)?;
                (wire.join_ref, wire.reference, wire.topic, wire.event, wire.payload)
            }
            Self::V2 => serde_json::from_str(text).map_err(malformed)?,
        };
        Ok(Frame {
            join_ref: reference_text(join_ref),
            reference: reference_text(reference),
            topic,
            event,
            payload: Payload::Json(payload),
        })
    }

    /// Reads a binary frame.
    ///
    /// # Errors
    /// When this version has none, or the sizes in its header do not fit.
    pub fn read_binary(self, data: &Bytes) -> Result<Frame, Malformed> {
        if self == Self::V1 {
            return Err(Malformed("version 1.0.0 has no binary frames"));
        }
        let mut rest = data.clone();
        let sizes = match data.first() {
            Some(&USER_BROADCAST_PUSH) => 7,
            Some(&PUSH) => 5,
            _ => return Err(Malformed("unknown kind of binary frame")),
        };
        if rest.len() < sizes {
            return Err(Malformed("cut off"));
        }
        let header = rest.split_to(sizes);
        let mut take = |size: u8| {
            if rest.len() < usize::from(size) {
                return Err(Malformed("cut off"));
            }
            String::from_utf8(rest.split_to(size.into()).to_vec()).map_err(|_| Malformed("not UTF-8"))
        };
        let (join_ref, reference) = (take(header[1])?, take(header[2])?);
        let (topic, event) = (take(header[3])?, take(header[4])?);
        let set = |text: String| Some(text).filter(|text| !text.is_empty());
        let (event, payload) = if header[0] == PUSH {
            let text = String::from_utf8(rest.to_vec()).map_err(|_| Malformed("not UTF-8"))?;
            (event, Payload::Json(json(text)?))
        } else {
            // What the client adds to a broadcast (`persist`) asks for what this server does not do.
            take(header[5])?;
            let body = match header[6] {
                0 => Body::Bytes(rest),
                1 => {
                    let text = String::from_utf8(rest.to_vec()).map_err(|_| Malformed("not UTF-8"))?;
                    Body::Json(json(text)?.get().to_owned())
                }
                _ => return Err(Malformed("unknown encoding")),
            };
            ("broadcast".to_owned(), Payload::Broadcast { event, body })
        };
        Ok(Frame {
            join_ref: set(join_ref),
            reference: set(reference),
            topic,
            event,
            payload,
        })
    }

    /// A text frame; `payload` is JSON text.
    pub fn text(
        self,
        join_ref: Option<&str>,
        reference: Option<&str>,
        topic: &str,
        event: &str,
        payload: &str,
    ) -> Message {
        let mut out = String::with_capacity(payload.len() + topic.len() + 64);
        match self {
            Self::V1 => {
                out.push_str("{\"topic\":");
                push_string(&mut out, Some(topic));
                out.push_str(",\"event\":");
                push_string(&mut out, Some(event));
                out.push_str(",\"payload\":");
                out.push_str(payload);
                out.push_str(",\"ref\":");
                push_string(&mut out, reference);
                out.push('}');
            }
            Self::V2 => {
                out.push('[');
                for text in [join_ref, reference, Some(topic), Some(event)] {
                    push_string(&mut out, text);
                    out.push(',');
                }
                out.push_str(payload);
                out.push(']');
            }
        }
        Message::Text(Utf8Bytes::from(out))
    }

    /// A broadcast to a client. `meta` is a JSON object. `None` where this version cannot carry it: bytes in a text
    /// protocol, or names longer than a binary header can say.
    pub fn broadcast(self, topic: &str, event: &str, body: &Body, meta: Option<&str>) -> Option<Message> {
        let fits = [topic, event, meta.unwrap_or_default()].map(|text| u8::try_from(text.len()));
        if let (Self::V2, [Ok(topic_size), Ok(event_size), Ok(meta_size)]) = (self, fits) {
            let (encoding, bytes) = match body {
                Body::Json(text) => (1, text.as_bytes()),
                Body::Bytes(bytes) => (0, &bytes[..]),
            };
            let mut out = vec![USER_BROADCAST, topic_size, event_size, meta_size, encoding];
            out.extend_from_slice(topic.as_bytes());
            out.extend_from_slice(event.as_bytes());
            out.extend_from_slice(meta.unwrap_or_default().as_bytes());
            out.extend_from_slice(bytes);
            return Some(Message::Binary(out.into()));
        }
        let Body::Json(text) = body else { return None };
        Some(self.text(None, None, topic, "broadcast", &broadcast_object(event, text, meta)))
    }
}

/// A broadcast's payload in a text frame.
pub fn broadcast_object(event: &str, payload: &str, meta: Option<&str>) -> String {
    let mut out = String::from("{\"event\":");
    push_string(&mut out, Some(event));
    out.push_str(",\"payload\":");
    out.push_str(payload);
    out.push_str(",\"type\":\"broadcast\"");
    if let Some(meta) = meta {
        out.push_str(",\"meta\":");
        out.push_str(meta);
    }
    out.push('}');
    out
}

/// Appends a JSON string, or null.
pub fn push_string(out: &mut String, text: Option<&str>) {
    match text {
        Some(text) => out.push_str(&Value::from(text).to_string()),
        None => out.push_str("null"),
    }
}

#[derive(Deserialize)]
struct WireV1 {
    topic: String,
    event: String,
    payload: Box<RawValue>,
    #[serde(rename = "ref", default)]
    reference: Value,
    #[serde(default)]
    join_ref: Value,
}

/// Some clients count in numbers.
fn reference_text(reference: Value) -> Option<String> {
    match reference {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn json(text: String) -> Result<Box<RawValue>, Malformed> {
    RawValue::from_string(text).map_err(|_| Malformed("not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: Option<Message>) -> String {
        match message {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("no text frame: {other:?}"),
        }
    }

    #[test]
    fn text_frames_are_read_in_both_versions() {
        let v2 = Version::V2
            .read_text(r#"["6","7","realtime:a","phx_join",{"x":1}]"#)
            .unwrap();
        let v1 = Version::V1
            .read_text(r#"{"topic":"realtime:a","event":"phx_join","payload":{"x":1},"ref":7,"join_ref":"6"}"#)
            .unwrap();
        for frame in [v1, v2] {
            assert_eq!(
                (frame.join_ref.as_deref(), frame.reference.as_deref()),
                (Some("6"), Some("7"))
            );
            assert_eq!((&*frame.topic, &*frame.event), ("realtime:a", "phx_join"));
            assert!(matches!(frame.payload, Payload::Json(json) if json.get() == r#"{"x":1}"#));
        }
        assert!(Version::V1.read_text(r#"["t","e",{}]"#).is_err());
        for bad in ["", "{}", "[1,2]", r#"["6","7","t","e"]"#, "null", "[[[["] {
            assert!(Version::V1.read_text(bad).is_err(), "{bad}");
            assert!(Version::V2.read_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_clients_broadcast_is_read_from_its_binary_frame() {
        let mut data = vec![3, 1, 1, 14, 5, 0, 1];
        data.extend_from_slice("67realtime:room1hello{\"t\":\"é\"}".as_bytes());
        let frame = Version::V2.read_binary(&data.clone().into()).unwrap();
        assert_eq!((&*frame.topic, &*frame.event), ("realtime:room1", "broadcast"));
        let Payload::Broadcast { event, body } = frame.payload else {
            panic!("no broadcast")
        };
        assert_eq!((&*event, body), ("hello", Body::Json("{\"t\":\"é\"}".into())));
        for length in 0..7 + 2 + 14 + 5 {
            assert!(Version::V2.read_binary(&data[..length].to_vec().into()).is_err());
        }
        assert!(Version::V2.read_binary(&vec![9, 0, 0, 0].into()).is_err());
        assert!(Version::V1.read_binary(&data.into()).is_err());
    }

    #[test]
    fn a_broadcast_takes_the_form_its_receiver_reads() {
        let body = Body::Json("{\"a\":1}".into());
        let Some(Message::Binary(frame)) = Version::V2.broadcast("realtime:r", "e", &body, Some("{\"id\":2}")) else {
            panic!("no binary frame")
        };
        assert_eq!(&frame[..5], [4, 10, 1, 8, 1]);
        assert_eq!(&frame[5..], b"realtime:re{\"id\":2}{\"a\":1}");
        assert_eq!(
            text(Version::V1.broadcast("realtime:r", "e", &body, None)),
            r#"{"topic":"realtime:r","event":"broadcast","payload":{"event":"e","payload":{"a":1},"type":"broadcast"},"ref":null}"#
        );
        // Too long for one byte of length: the text form says the same.
        let long = "x".repeat(256);
        assert!(text(Version::V2.broadcast("realtime:r", &long, &body, None)).starts_with("[null,null,"));
        assert!(
            Version::V1
                .broadcast("realtime:r", "e", &Body::Bytes(Bytes::new()), None)
                .is_none()
        );
    }
}
