//! What a join asks for, and by whom.

use std::{collections::HashSet, time::Duration};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    changes::{Binding, Client, Key, LastRef},
    listener::Listener,
    token::Token,
};

/// Ids of bindings are below this.
const MAX_BINDING_ID: u32 = 1 << 27;
/// How long a client that wants its changes or nothing waits for them, if it says no time, and at most.
const WAIT: Duration = Duration::from_secs(15);
const MAX_WAIT: Duration = Duration::from_secs(20);

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
    /// How long it waits for them, if it wants all of them or not to join.
    pub wait: Option<Duration>,
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
    /// Reads a join's payload. A client of old says in the topic what it wants.
    pub fn read(payload: &Value, subtopic: &str) -> Self {
        let config = &payload["config"];
        let wanted = if is_legacy(payload) {
            vec![of_topic(subtopic)]
        } else {
            config["postgres_changes"].as_array().cloned().unwrap_or_default()
        };
        Self {
            ack: is_true(&config["broadcast"]["ack"]),
            to_itself: is_true(&config["broadcast"]["self"]),
            replication_ready: is_true(&config["broadcast"]["replication_ready"]),
            replay: config["broadcast"]["replay"].clone(),
            private: is_true(&config["private"]),
            presence_enabled: presence_enabled(&config["presence"]),
            presence_key: presence_key(&config["presence"]["key"]),
            bindings: bindings(&wanted),
            wait: wait(&config["postgres_changes_options"]),
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

/// Whether a join is one of before there was a `config`: its changes come as events of their own names.
pub fn is_legacy(payload: &Value) -> bool {
    payload.get("config").is_none()
}

/// `SCHEMA`, `SCHEMA:TABLE` or `SCHEMA:TABLE:FILTER`.
fn of_topic(subtopic: &str) -> Value {
    let names = ["schema", "table", "filter"];
    let said = names.into_iter().zip(subtopic.splitn(3, ':'));
    said.map(|(name, value)| (name.to_owned(), json!(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// Clients of before there was `enabled` name a key and want to know who is present.
fn presence_enabled(said: &Value) -> bool {
    match said.get("enabled") {
        Some(enabled) => is_true(enabled),
        None => said.get("key").is_some(),
    }
}

fn presence_key(said: &Value) -> String {
    match said {
        Value::String(key) if !key.is_empty() => key.clone(),
        Value::Number(_) | Value::Bool(_) => said.to_string(),
        _ => Uuid::new_v4().to_string(),
    }
}

fn wait(options: &Value) -> Option<Duration> {
    let said = options["timeout"].as_u64().filter(|timeout| *timeout > 0);
    is_true(&options["wait"]).then(|| said.map_or(WAIT, Duration::from_millis).min(MAX_WAIT))
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
        let read = |payload| Config::read(&payload, "topic");
        let config = read(json!({ "config": {
            "broadcast": { "ack": "TRUE", "self": 1 }, "presence": { "key": "", "enabled": "no" }, "private": null,
            "postgres_changes": [null, { "event": "*", "schema": "public" }, 5, { "event": "*", "schema": "public" },
                { "event": "INSERT", "schema": "public" }],
        }}));
        assert!(config.ack && !config.to_itself && !config.private && !config.presence_enabled);
        assert_eq!(config.presence_key.len(), 36);
        let ids: Vec<u32> = config.bindings.iter().map(|binding| binding.id).collect();
        assert_eq!(ids.len(), 3);
        assert!(ids[0] == ids[1] && ids[1] != ids[2] && ids.iter().all(|id| *id < MAX_BINDING_ID));
        assert!(read(json!({ "config": "nothing" })).bindings.is_empty());
        assert!(
            read(json!({ "config": { "postgres_changes": null } }))
                .bindings
                .is_empty()
        );
        let enabled = |presence| read(json!({ "config": { "presence": presence } })).presence_enabled;
        assert!(enabled(json!({ "key": "" })) && enabled(json!({ "enabled": true })));
        assert!(!enabled(json!({ "key": "", "enabled": false })) && !enabled(json!({})) && !enabled(json!(null)));
        let key = |key: Value| read(json!({ "config": { "presence": { "key": key } } })).presence_key;
        assert_eq!(
            (key(json!("me")), key(json!(7)), key(json!([])).len()),
            ("me".into(), "7".into(), 36)
        );
    }

    #[test]
    fn a_join_without_config_says_in_its_topic_what_it_wants() {
        let of = |topic| Value::from(Config::read(&json!({}), topic).bindings[0].params.clone());
        assert_eq!(of("public"), json!({ "schema": "public" }));
        assert_eq!(
            of("public:notes:name=eq.a:b"),
            json!({ "schema": "public", "table": "notes", "filter": "name=eq.a:b" })
        );
    }

    #[test]
    fn a_client_says_how_long_it_waits_for_its_changes() {
        let wait = |options| wait(&options).map(|wait| wait.as_millis());
        assert_eq!(wait(json!(null)), None);
        assert_eq!(wait(json!({ "timeout": 5 })), None);
        assert_eq!(wait(json!({ "wait": "true" })), Some(15_000));
        assert_eq!(wait(json!({ "wait": true, "timeout": 5 })), Some(5));
        assert_eq!(wait(json!({ "wait": true, "timeout": 90_000 })), Some(20_000));
        assert_eq!(wait(json!({ "wait": true, "timeout": -1 })), Some(15_000));
    }
}
