//! What a join asks for, and by whom.

use std::collections::HashSet;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    changes::{Binding, Client, Key, LastRef},
    listener::Listener,
    token::Token,
};

/// Ids of bindings are below this.
const MAX_BINDING_ID: u32 = 1 << 27;

/// What a join asks for. Wrong types are not refused, defaults are used: that is how clients know it.
#[derive(Debug, Default)]
pub struct Config {
    /// Answer broadcasts.
    pub ack: bool,
    /// Send broadcasts back to their sender.
    pub to_itself: bool,
    /// Say when messages of the database are on their way.
    pub replication_ready: bool,
    /// What to send of before.
    pub replay: Value,
    /// Whether policies say who may read and write.
    pub private: bool,
    /// Send who is present.
    pub presence_enabled: bool,
    /// Under which key it is present.
    pub presence_key: String,
    /// The changes it wants.
    pub bindings: Vec<Binding>,
}

/// Whose socket a channel is joined on.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the client calls itself.
    pub agent: String,
    /// The number of its last message.
    pub last_ref: LastRef,
}

impl Config {
    /// Reads a join's payload.
    pub fn read(payload: &Value) -> Self {
        let config = &payload["config"];
        let key = config["presence"]["key"].as_str().unwrap_or_default();
        Self {
            ack: is_true(&config["broadcast"]["ack"]),
            to_itself: is_true(&config["broadcast"]["self"]),
            replication_ready: is_true(&config["broadcast"]["replication_ready"]),
            replay: config["broadcast"]["replay"].clone(),
            private: is_true(&config["private"]),
            presence_enabled: is_true(&config["presence"]["enabled"]),
            presence_key: if key.is_empty() {
                Uuid::new_v4().to_string()
            } else {
                key.to_owned()
            },
            bindings: bindings(config["postgres_changes"].as_array().map_or(&[], Vec::as_slice)),
        }
    }

    /// How the client of a channel would be known again.
    pub fn client(&self, token: &Token, listener: &Listener, caller: &Caller, join_ref: u64) -> Client {
        Client {
            key: Key::new(
                &token.identity,
                &caller.agent,
                &listener.topic,
                self.private,
                &self.bindings,
            ),
            join_ref,
            last_ref: caller.last_ref.clone(),
        }
    }
}

/// Equal parameters have equal ids, different ones different ids.
fn bindings(wanted: &[Value]) -> Vec<Binding> {
    let mut bindings: Vec<Binding> = Vec::new();
    let mut used: HashSet<u32> = HashSet::new();
    for params in wanted.iter().filter_map(Value::as_object) {
        let equal = bindings
            .iter()
            .find(|other| other.params == *params)
            .map(|other| other.id);
        let id = equal.unwrap_or_else(|| {
            let mut id = hash(params);
            while !used.insert(id) {
                id = (id + 1) % MAX_BINDING_ID;
            }
            id
        });
        bindings.push(Binding {
            id,
            params: params.clone(),
        });
    }
    bindings
}

/// FNV-1a of the parameters, which are in order of their names.
fn hash(params: &Map<String, Value>) -> u32 {
    let text = Value::from(params.clone()).to_string();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash % MAX_BINDING_ID
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(is) => *is,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_join_is_read_with_all_its_tolerances() {
        let config = Config::read(&json!({ "config": {
            "broadcast": { "ack": "TRUE", "self": 1 }, "presence": { "key": "" }, "private": null,
            "postgres_changes": [null, { "event": "*", "schema": "public" }, 5, { "event": "*", "schema": "public" },
                { "event": "INSERT", "schema": "public" }],
        }}));
        assert!(config.ack && !config.to_itself && !config.private && !config.presence_enabled);
        assert_eq!(config.presence_key.len(), 36);
        let ids: Vec<u32> = config.bindings.iter().map(|binding| binding.id).collect();
        assert_eq!(ids.len(), 3);
        assert!(ids[0] == ids[1] && ids[1] != ids[2] && ids.iter().all(|id| *id < MAX_BINDING_ID));
        assert!(Config::read(&json!("nothing")).bindings.is_empty());
        assert!(
            Config::read(&json!({ "config": { "postgres_changes": null } }))
                .bindings
                .is_empty()
        );
    }
}
