//! What gateways say to each other: one content holds many items, and whose they are.

use axum::body::Bytes;
use bytes::{Buf, BufMut};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::node::Node;
use crate::gateway::realtime::{broadcast::Broadcast, hub::Topic, presence::Entry, protocol::Body};

/// The form described here. Another is another release's, and not read.
const FORM: u8 = 1;

/// Whose content it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The gateway.
    pub node: Node,
    /// Its run: another one knows nothing of what it said before.
    pub run: Uuid,
    /// Counts its contents without a gap.
    pub number: u64,
}

/// One thing that is said.
#[derive(Debug, PartialEq)]
pub enum Item {
    /// A client's broadcast.
    Broadcast(Topic, Broadcast),
    /// What a channel is present as.
    Present(Topic, u64, Entry),
    /// A channel is not present any more.
    Absent(Topic, u64),
    /// Everybody present follows ...
    Everybody,
    /// ... up to here.
    NobodyElse,
    /// The others are to say who is present with them.
    Ask,
    /// The gateway ends.
    Bye,
}

/// Nothing that is read here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not what gateways of this release say")]
pub struct Unreadable;

impl From<bytes::TryGetError> for Unreadable {
    fn from(_: bytes::TryGetError) -> Self {
        Self
    }
}

/// Begins a content.
pub fn begin(header: &Header) -> Vec<u8> {
    let mut out = vec![FORM];
    out.put_u32(header.node.number());
    out.put_u128(header.run.as_u128());
    out.put_u64(header.number);
    out
}

/// Reads a content.
///
/// # Errors
/// When it is of another form, or cut off.
pub fn read(mut data: Bytes) -> Result<(Header, Vec<Item>), Unreadable> {
    let data = &mut data;
    if data.try_get_u8()? != FORM {
        return Err(Unreadable);
    }
    let header = Header {
        node: Node::numbered(data.try_get_u32()?),
        run: Uuid::from_u128(data.try_get_u128()?),
        number: data.try_get_u64()?,
    };
    let mut items = Vec::new();
    while data.has_remaining() {
        items.push(item(data)?);
    }
    Ok((header, items))
}

impl Item {
    /// Writes it behind others.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Broadcast(topic, broadcast) => match broadcast {
                Broadcast::Object(text) => {
                    put_topic(out, b'o', topic);
                    put(out, text.as_bytes());
                }
                Broadcast::User { event, body } => {
                    let (kind, body) = match body {
                        Body::Json(text) => (b'j', text.as_bytes()),
                        Body::Bytes(bytes) => (b'b', &bytes[..]),
                    };
                    put_topic(out, kind, topic);
                    put(out, event.as_bytes());
                    put(out, body);
                }
            },
            Self::Present(topic, channel, entry) => {
                put_topic(out, b'+', topic);
                out.put_u64(*channel);
                put(out, entry.key.as_bytes());
                put(out, entry.reference.as_bytes());
                put(out, Value::from(entry.payload.clone()).to_string().as_bytes());
            }
            Self::Absent(topic, channel) => {
                put_topic(out, b'-', topic);
                out.put_u64(*channel);
            }
            Self::Everybody => out.push(b'['),
            Self::NobodyElse => out.push(b']'),
            Self::Ask => out.push(b'?'),
            Self::Bye => out.push(b'.'),
        }
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("what a frame or request holds is far below 4 GB"));
    out.extend_from_slice(bytes);
}

fn put_topic(out: &mut Vec<u8>, kind: u8, topic: &Topic) {
    out.extend([kind, u8::from(topic.private)]);
    put(out, topic.name.as_bytes());
}

fn item(data: &mut Bytes) -> Result<Item, Unreadable> {
    Ok(match data.try_get_u8()? {
        b'o' => Item::Broadcast(topic(data)?, Broadcast::Object(text(data)?)),
        b'j' => {
            let (topic, event) = (topic(data)?, text(data)?);
            let body = Body::Json(text(data)?);
            Item::Broadcast(topic, Broadcast::User { event, body })
        }
        b'b' => {
            let (topic, event) = (topic(data)?, text(data)?);
            let body = Body::Bytes(bytes(data)?);
            Item::Broadcast(topic, Broadcast::User { event, body })
        }
        b'+' => {
            let (topic, channel) = (topic(data)?, data.try_get_u64()?);
            let (key, reference) = (text(data)?, text(data)?);
            let payload: Map<String, Value> = serde_json::from_slice(&bytes(data)?).map_err(|_| Unreadable)?;
            let entry = Entry {
                key,
                reference,
                payload,
            };
            Item::Present(topic, channel, entry)
        }
        b'-' => Item::Absent(topic(data)?, data.try_get_u64()?),
        b'[' => Item::Everybody,
        b']' => Item::NobodyElse,
        b'?' => Item::Ask,
        b'.' => Item::Bye,
        _ => return Err(Unreadable),
    })
}

fn topic(data: &mut Bytes) -> Result<Topic, Unreadable> {
    let private = data.try_get_u8()? == 1;
    let name = text(data)?;
    Ok(Topic { name, private })
}

fn text(data: &mut Bytes) -> Result<String, Unreadable> {
    String::from_utf8(bytes(data)?.into()).map_err(|_| Unreadable)
}

fn bytes(data: &mut Bytes) -> Result<Bytes, Unreadable> {
    let size = data.try_get_u32()? as usize;
    if data.len() < size {
        return Err(Unreadable);
    }
    Ok(data.split_to(size))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_off_is_not() {
        let header = Header {
            node: Node::new("a"),
            run: Uuid::new_v4(),
            number: 7,
        };
        let topic = |private| Topic {
            name: "räume".into(),
            private,
        };
        let user = |body| Broadcast::User {
            event: "e".into(),
            body,
        };
        let Value::Object(payload) = json!({ "mood": [1, null] }) else {
            panic!("an object")
        };
        let entry = Entry {
            key: "k".into(),
            reference: "r-1".into(),
            payload,
        };
        let items = [
            Item::Broadcast(topic(true), Broadcast::Object("{\"a\":1}".into())),
            Item::Broadcast(topic(false), user(Body::Json("null".into()))),
            Item::Broadcast(topic(false), user(Body::Bytes(Bytes::from_static(&[0, 255])))),
            Item::Everybody,
            Item::Present(topic(true), 5, entry),
            Item::NobodyElse,
            Item::Absent(topic(true), 5),
            Item::Ask,
            Item::Bye,
        ];
        let mut content = begin(&header);
        items.iter().for_each(|item| item.write(&mut content));
        let content = Bytes::from(content);
        let (read_header, read_items) = read(content.clone()).unwrap();
        assert_eq!((read_header, &read_items[..]), (header, &items[..]));
        for length in 0..content.len() {
            // Where it is cut between two items it is a shorter one.
            if let Ok((_, fewer)) = read(content.slice(..length)) {
                assert!(fewer.len() < items.len());
            }
        }
        assert_eq!(read(Bytes::from_static(&[9; 40])), Err(Unreadable));
    }
}
