//! Who is present on a topic, as each channel says of itself.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Map, Value};

use super::{cluster::Node, protocol::push_string};

/// Numbers statements of presence of this process.
static LAST: AtomicU64 = AtomicU64::new(0);
/// Tells them from those of other gateways, and of earlier runs.
static PROCESS: LazyLock<u32> = LazyLock::new(rand::random);

/// Whose statement it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A channel of this gateway.
    Here(u64),
    /// A channel of another one.
    At(Node, u64),
}

/// What a channel says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Under which key it is present.
    pub key: String,
    /// `phx_ref`: names this statement, and no other of any gateway.
    pub reference: String,
    /// What the client sent.
    pub payload: Map<String, Value>,
}

/// Everybody present: key, then what each channel of that key says.
#[derive(Debug, Default)]
pub struct Presence {
    present: BTreeMap<String, Vec<Meta>>,
    keys: HashMap<Owner, String>,
}

#[derive(Debug)]
struct Meta {
    owner: Owner,
    entry: Entry,
    /// What clients are shown, as JSON: the payload with the references that Phoenix adds. Written once, as everybody is
    /// shown it.
    shown: Arc<str>,
}

/// What changed, by key.
#[derive(Debug, Default, PartialEq)]
pub struct Diff {
    joins: Metas,
    leaves: Metas,
}

type Metas = BTreeMap<String, Vec<Arc<str>>>;

impl Presence {
    /// A channel of this gateway says what it is. Gives the statement with what changed; `None` if it said so before.
    pub fn track(&mut self, channel: u64, key: &str, payload: Map<String, Value>) -> Option<(Entry, Diff)> {
        let owner = Owner::Here(channel);
        if self.get(owner).is_some_and(|meta| meta.entry.payload == payload) {
            return None;
        }
        let entry = Entry {
            key: key.to_owned(),
            reference: format!("{:08x}-{:x}", *PROCESS, LAST.fetch_add(1, Ordering::Relaxed)),
            payload,
        };
        Some((entry.clone(), self.put(owner, entry)?))
    }

    /// Takes a channel's statement; `None` if it is known.
    pub fn put(&mut self, owner: Owner, entry: Entry) -> Option<Diff> {
        if self
            .get(owner)
            .is_some_and(|meta| meta.entry.reference == entry.reference)
        {
            return None;
        }
        let left = self.remove(owner);
        let key = entry.key.clone();
        let meta = Meta {
            owner,
            shown: entry.shown(left.as_ref().map(|left| left.entry.reference.as_str())),
            entry,
        };
        let mut diff = Diff::default();
        diff.joins.insert(key.clone(), vec![Arc::clone(&meta.shown)]);
        if let Some(left) = left {
            diff.leaves.insert(left.entry.key, vec![left.shown]);
        }
        self.keys.insert(owner, key.clone());
        self.present.entry(key).or_default().push(meta);
        Some(diff)
    }

    /// A channel is gone; `None` if it was not present.
    pub fn untrack(&mut self, owner: Owner) -> Option<Diff> {
        let left = self.remove(owner)?;
        let mut diff = Diff::default();
        diff.leaves.insert(left.entry.key, vec![left.shown]);
        Some(diff)
    }

    fn get(&self, owner: Owner) -> Option<&Meta> {
        let metas = self.present.get(self.keys.get(&owner)?)?;
        metas.iter().find(|meta| meta.owner == owner)
    }

    fn remove(&mut self, owner: Owner) -> Option<Meta> {
        let key = self.keys.remove(&owner)?;
        let metas = self.present.get_mut(&key)?;
        let at = metas.iter().position(|meta| meta.owner == owner)?;
        let meta = metas.remove(at);
        if metas.is_empty() {
            self.present.remove(&key);
        }
        Some(meta)
    }

    /// The channels of this gateway, and what they say.
    pub fn here(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.present.values().flatten().filter_map(|meta| match meta.owner {
            Owner::Here(channel) => Some((channel, &meta.entry)),
            Owner::At(..) => None,
        })
    }

    /// The channels of another gateway.
    pub fn at(&self, node: Node) -> HashSet<u64> {
        let of_node = self.keys.keys().filter_map(|owner| match owner {
            Owner::At(at, channel) if *at == node => Some(*channel),
            _ => None,
        });
        of_node.collect()
    }

    /// Whether nobody is present.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// Everybody present, as JSON.
    pub fn state(&self) -> String {
        let mut out = String::new();
        let present = self.present.iter();
        write(
            &mut out,
            present.map(|(key, metas)| (key.as_str(), metas.iter().map(|meta| &*meta.shown))),
        );
        out
    }

    /// The keys of those who are present.
    #[cfg(test)]
    pub fn keys(&self) -> Vec<String> {
        self.present.keys().cloned().collect()
    }
}

impl Entry {
    /// What the client sent, with the references that Phoenix adds, as JSON.
    fn shown(&self, previous: Option<&str>) -> Arc<str> {
        let mut shown = self.payload.clone();
        shown.insert("phx_ref".into(), self.reference.clone().into());
        if let Some(previous) = previous {
            shown.insert("phx_ref_prev".into(), previous.into());
        }
        Value::Object(shown).to_string().into()
    }
}

/// Writes `{KEY: {"metas": [..]}, ..}`.
fn write<'a>(out: &mut String, all: impl Iterator<Item = (&'a str, impl Iterator<Item = &'a str>)>) {
    out.push('{');
    for (number, (key, metas)) in all.enumerate() {
        if number > 0 {
            out.push(',');
        }
        push_string(out, Some(key));
        out.push_str(":{\"metas\":[");
        for (number, meta) in metas.enumerate() {
            if number > 0 {
                out.push(',');
            }
            out.push_str(meta);
        }
        out.push_str("]}");
    }
    out.push('}');
}

impl Diff {
    /// Takes in what changed for other channels.
    pub fn merge(&mut self, other: Self) {
        for (all, more) in [(&mut self.joins, other.joins), (&mut self.leaves, other.leaves)] {
            for (key, metas) in more {
                all.entry(key).or_default().extend(metas);
            }
        }
    }

    /// The payload of `presence_diff`.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        for (head, metas) in [("{\"joins\":", &self.joins), (",\"leaves\":", &self.leaves)] {
            out.push_str(head);
            write(
                &mut out,
                metas
                    .iter()
                    .map(|(key, metas)| (key.as_str(), metas.iter().map(|meta| &**meta))),
            );
        }
        out.push('}');
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn payload(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn channels_of_one_key_come_and_go() {
        let mut presence = Presence::default();
        let mut track = |channel, text| {
            let (_, diff) = presence.track(channel, "a", payload(text))?;
            Some((read(&diff.to_json()), read(&presence.state())))
        };
        let (first, _) = track(1, r#"{"n":1}"#).unwrap();
        assert_eq!(first["joins"]["a"]["metas"][0]["n"], 1);
        assert_eq!(first["leaves"], json!({}));
        assert_eq!(track(1, r#"{"n":1}"#), None);
        let (_, both) = track(2, r#"{"n":2}"#).unwrap();
        assert_eq!(both["a"]["metas"].as_array().map(Vec::len), Some(2));
        let (changed, _) = track(1, r#"{"n":3}"#).unwrap();
        assert_eq!(changed["leaves"]["a"]["metas"][0]["n"], 1);
        assert_eq!(
            changed["joins"]["a"]["metas"][0]["phx_ref_prev"],
            first["joins"]["a"]["metas"][0]["phx_ref"]
        );
        assert_eq!(
            read(&presence.untrack(Owner::Here(1)).unwrap().to_json())["joins"],
            json!({})
        );
        assert!(presence.untrack(Owner::Here(1)).is_none());
        presence.untrack(Owner::Here(2));
        assert_eq!(presence.state(), "{}");
    }

    #[test]
    fn statements_of_another_gateway_are_told_once_with_their_references() {
        let (mut here, mut there) = (Presence::default(), Presence::default());
        let node = Node::new("here");
        let (first, _) = here.track(1, "a", payload(r#"{"n":1}"#)).unwrap();
        assert!(there.put(Owner::At(node, 1), first.clone()).is_some());
        assert!(there.put(Owner::At(node, 1), first.clone()).is_none());
        // the same number of a channel of its own is somebody else
        there.track(1, "a", payload(r#"{"n":9}"#));
        assert_eq!((there.at(node), there.here().count()), ([1].into(), 1));
        let (second, _) = here.track(1, "a", payload(r#"{"n":2}"#)).unwrap();
        let diff = read(&there.put(Owner::At(node, 1), second.clone()).unwrap().to_json());
        assert_eq!(diff["leaves"]["a"]["metas"][0]["phx_ref"], first.reference.as_str());
        let joined = &diff["joins"]["a"]["metas"][0];
        assert_eq!(
            (&joined["phx_ref"], &joined["phx_ref_prev"]),
            (&second.reference.into(), &first.reference.into())
        );
        let mut gone = there.untrack(Owner::At(node, 1)).unwrap();
        gone.merge(there.untrack(Owner::Here(1)).unwrap());
        assert_eq!(
            read(&gone.to_json())["leaves"]["a"]["metas"].as_array().map(Vec::len),
            Some(2)
        );
        assert!(there.is_empty());
    }
}
