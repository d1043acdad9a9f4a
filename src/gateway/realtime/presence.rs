//! Who is present on a topic, as each channel says of itself.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Map, Value, json};

/// Numbers statements of presence of this process.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Everybody present: key, then what each channel of that key says.
#[derive(Debug, Default)]
pub struct Presence {
    present: BTreeMap<String, Vec<Meta>>,
}

#[derive(Clone, Debug)]
struct Meta {
    channel: u64,
    /// What the client sent.
    payload: Map<String, Value>,
    /// The same with the references that Phoenix adds.
    shown: Map<String, Value>,
}

/// What changed: key with what was added and what was removed.
#[derive(Debug, PartialEq)]
pub struct Diff {
    key: String,
    joins: Option<Map<String, Value>>,
    leaves: Option<Map<String, Value>>,
}

impl Presence {
    /// A channel says what it is; `None` if it said so before.
    pub fn track(&mut self, channel: u64, key: &str, payload: Map<String, Value>) -> Option<Diff> {
        let metas = self.present.entry(key.to_owned()).or_default();
        let before = metas.iter().position(|meta| meta.channel == channel);
        if before.is_some_and(|before| metas[before].payload == payload) {
            return None;
        }
        let left = before.map(|before| metas.remove(before).shown);
        let mut shown = payload.clone();
        shown.insert("phx_ref".into(), reference().into());
        if let Some(previous) = left.as_ref().and_then(|left| left.get("phx_ref")) {
            shown.insert("phx_ref_prev".into(), previous.clone());
        }
        metas.push(Meta {
            channel,
            payload,
            shown: shown.clone(),
        });
        Some(Diff {
            key: key.to_owned(),
            joins: Some(shown),
            leaves: left,
        })
    }

    /// A channel is gone; `None` if it was not present.
    pub fn untrack(&mut self, channel: u64) -> Option<Diff> {
        let (key, at) = self
            .present
            .iter()
            .find_map(|(key, metas)| Some((key.clone(), metas.iter().position(|meta| meta.channel == channel)?)))?;
        let metas = self.present.get_mut(&key)?;
        let left = metas.remove(at).shown;
        if metas.is_empty() {
            self.present.remove(&key);
        }
        Some(Diff {
            key,
            joins: None,
            leaves: Some(left),
        })
    }

    /// Everybody present.
    pub fn state(&self) -> Value {
        let of = |metas: &Vec<Meta>| json!({ "metas": metas.iter().map(|meta| &meta.shown).collect::<Vec<_>>() });
        let state: Map<String, Value> = self
            .present
            .iter()
            .map(|(key, metas)| (key.clone(), of(metas)))
            .collect();
        state.into()
    }
}

impl Diff {
    /// The payload of `presence_diff`.
    pub fn to_json(&self) -> Value {
        let side = |meta: &Option<Map<String, Value>>| match meta {
            Some(meta) => json!({ &self.key: { "metas": [meta] } }),
            None => json!({}),
        };
        json!({ "joins": side(&self.joins), "leaves": side(&self.leaves) })
    }
}

fn reference() -> String {
    format!("{:x}", LAST.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn channels_of_one_key_come_and_go() {
        let mut presence = Presence::default();
        let first = presence.track(1, "a", payload(r#"{"n":1}"#)).unwrap().to_json();
        assert_eq!(first["joins"]["a"]["metas"][0]["n"], 1);
        assert_eq!(first["leaves"], json!({}));
        assert_eq!(presence.track(1, "a", payload(r#"{"n":1}"#)), None);
        presence.track(2, "a", payload(r#"{"n":2}"#));
        assert_eq!(presence.state()["a"]["metas"].as_array().map(Vec::len), Some(2));
        let changed = presence.track(1, "a", payload(r#"{"n":3}"#)).unwrap().to_json();
        assert_eq!(changed["leaves"]["a"]["metas"][0]["n"], 1);
        assert_eq!(
            changed["joins"]["a"]["metas"][0]["phx_ref_prev"],
            first["joins"]["a"]["metas"][0]["phx_ref"]
        );
        assert_eq!(presence.untrack(1).unwrap().to_json()["joins"], json!({}));
        assert!(presence.untrack(1).is_none());
        presence.untrack(2);
        assert_eq!(presence.state(), json!({}));
    }
}
