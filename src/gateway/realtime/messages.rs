//! Broadcasts from the database: rows inserted into `realtime.messages`.

use axum::body::Bytes;

use super::{
    changes::{Change, Relation},
    hub::{Hub, Topic},
    protocol::Body,
};

/// Whether a table is `realtime.messages`, or one of its partitions, one a day.
pub fn is_messages(relation: &Relation) -> bool {
    relation.schema == "realtime" && (relation.name == "messages" || relation.name.starts_with("messages_"))
}

/// Broadcasts a row.
pub fn deliver(hub: &Hub, relation: &Relation, change: &Change) {
    let Some(row) = &change.new else { return };
    let text = |column: &str| relation.position(column).and_then(|position| row[position].text());
    if text("extension") != Some("broadcast") {
        return;
    }
    let (Some(name), Some(event)) = (text("topic"), text("event")) else {
        return;
    };
    let body = match text("binary_payload") {
        Some(hex) => Body::Bytes(bytes(hex)),
        None => Body::Json(text("payload").unwrap_or("null").to_owned()),
    };
    let id = text("id");
    let meta = id.map(|id| format!("{{\"id\":\"{id}\"}}"));
    let topic = Topic {
        name: name.to_owned(),
        private: text("private") == Some("t"),
    };
    hub.broadcast(&topic, None, id, |version, topic| {
        version.broadcast(topic, event, &body, meta.as_deref())
    });
}

/// `\x00ff`, as `bytea_output` has it on this connection.
fn bytes(hex: &str) -> Bytes {
    let digits = hex.strip_prefix("\\x").unwrap_or_default().as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks_exact(2).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_hex() {
        assert_eq!(&bytes("\\x00ff10")[..], [0, 255, 16]);
        assert!(bytes("\\x").is_empty());
    }
}
