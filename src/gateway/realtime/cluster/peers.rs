//! The other gateways, as far as they are heard.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use uuid::Uuid;

use super::{
    Held,
    node::Node,
    wire::{self, Item},
};
use crate::gateway::realtime::{
    hub::{Hub, Place},
    presence::Entry,
};

/// How long a gateway that lives may say nothing; each says something every [`super::bus::ALIVE`].
const SILENCE: Duration = Duration::from_secs(20);
/// How often is asked who is present there, until it is known.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The gateways that were heard.
#[derive(Debug, Default)]
pub struct Peers {
    known: HashMap<Node, Peer>,
    /// When our own word came back last: silence means something only while the stream flows.
    heard_ourselves: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    run: Uuid,
    /// Of its last content.
    number: u64,
    presence: Known,
    heard: Instant,
    asked: Option<Instant>,
}

/// What is known of who is present at a gateway.
#[derive(Debug)]
enum Known {
    /// Something was missed.
    Nothing,
    /// It is telling.
    Part(Vec<(Place, Entry)>),
    /// Every later change is heard.
    All,
}

/// What is to be done about what was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Ask the gateways who is present there.
    pub ask: bool,
    /// Look who is there: one has come or gone.
    pub look: bool,
}

impl Peers {
    /// Takes in what a gateway said.
    pub fn hear(&mut self, me: Held, content: Bytes, hub: &Hub, now: Instant) -> Heard {
        let mut heard = Heard::default();
        let (header, items) = match wire::read(content) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "another gateway is not understood");
                return heard;
            }
        };
        if header.node == me.node {
            self.heard_ourselves = Some(now);
            return heard;
        }
        if self.known.get(&header.node).is_some_and(|peer| peer.run != header.run) {
            self.forget(header.node, hub);
        }
        let peer = self.known.entry(header.node).or_insert_with(|| {
            heard.look = true;
            Peer {
                run: header.run,
                number: header.number.saturating_sub(1),
                presence: Known::Nothing,
                heard: now,
                asked: None,
            }
        });
        if header.number <= peer.number {
            // Written twice, as its writer did not know whether it was.
            return heard;
        }
        if header.number > peer.number + 1 {
            peer.presence = Known::Nothing;
        }
        (peer.number, peer.heard) = (header.number, now);
        for item in items {
            match item {
                Item::Broadcast(topic, broadcast) => {
                    hub.broadcast(&topic, None, None, |version, topic| broadcast.frame(version, topic));
                }
                Item::Present(topic, channel, entry) => match &mut peer.presence {
                    Known::Nothing => {}
                    Known::Part(part) => part.push(((topic, channel), entry)),
                    Known::All => hub.hear(header.node, (topic, channel), Some(entry)),
                },
                Item::Absent(topic, channel) => {
                    if matches!(peer.presence, Known::All) {
                        hub.hear(header.node, (topic, channel), None);
                    }
                }
                Item::Everybody => (peer.presence, peer.asked) = (Known::Part(Vec::new()), None),
                Item::NobodyElse => {
                    if let Known::Part(everybody) = std::mem::replace(&mut peer.presence, Known::All) {
                        hub.hear_everybody(header.node, everybody);
                    }
                }
                Item::Ask => hub.tell_everybody(),
                Item::Bye => {
                    self.forget(header.node, hub);
                    return Heard { look: true, ..heard };
                }
            }
        }
        let due = peer.asked.is_none_or(|asked| now.duration_since(asked) > ASK_AGAIN);
        if due && matches!(peer.presence, Known::Nothing) {
            peer.asked = Some(now);
            heard.ask = true;
        }
        heard
    }

    /// Forgets a gateway and who is present there.
    pub fn forget(&mut self, node: Node, hub: &Hub) {
        if self.known.remove(&node).is_some() {
            hub.hear_everybody(node, Vec::new());
        }
    }

    /// The gateways that have been heard, or are present in what was heard.
    pub fn nodes(&self) -> Vec<Node> {
        self.known.keys().copied().collect()
    }

    /// Those that should have said something since.
    pub fn silent(&self) -> Vec<Node> {
        let silent = self.known.iter().filter(|(_, peer)| {
            self.heard_ourselves
                .is_some_and(|ourselves| ourselves.saturating_duration_since(peer.heard) > SILENCE)
        });
        silent.map(|(node, _)| *node).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::gateway::realtime::hub::Topic;

    fn content(node: &str, run: u128, number: u64, items: &[Item]) -> Bytes {
        let header = wire::Header {
            node: Node::new(node),
            run: Uuid::from_u128(run),
            number,
        };
        let mut content = wire::begin(&header);
        items.iter().for_each(|item| item.write(&mut content));
        content.into()
    }

    fn topic() -> Topic {
        Topic {
            name: "t".into(),
            private: false,
        }
    }

    fn present(channel: u64) -> Item {
        let entry = Entry {
            key: channel.to_string(),
            reference: channel.to_string(),
            payload: Map::new(),
        };
        Item::Present(topic(), channel, entry)
    }

    struct Here(Peers, Hub);

    impl Here {
        fn hear(&mut self, content: Bytes) -> Heard {
            let me = Held {
                node: Node::new("me"),
                run: Uuid::nil(),
            };
            self.0.hear(me, content, &self.1, Instant::now())
        }

        fn keys(&self) -> Vec<String> {
            self.1.present(&topic())
        }
    }

    #[test]
    fn presence_is_taken_from_the_start_and_without_a_gap() {
        let mut here = Here(Peers::default(), Hub::default());
        let heard = here.hear(content("a", 1, 5, &[present(1)]));
        assert!(heard.ask && heard.look, "what was before is not known");
        assert!(here.keys().is_empty());
        here.hear(content("a", 1, 6, &[Item::Everybody, present(1)]));
        here.hear(content("a", 1, 7, &[present(2), Item::NobodyElse, present(3)]));
        assert_eq!(here.keys(), ["1", "2", "3"]);
        here.hear(content("a", 1, 7, &[Item::Absent(topic(), 1)]));
        assert_eq!(here.keys(), ["1", "2", "3"], "the same content comes twice");
        assert!(here.hear(content("a", 1, 9, &[present(4)])).ask, "one is missing");
        assert_eq!(here.keys(), ["1", "2", "3"]);
        here.hear(content(
            "a",
            1,
            10,
            &[Item::Everybody, present(3), present(4), Item::NobodyElse],
        ));
        assert_eq!(here.keys(), ["3", "4"]);
        here.hear(content("b", 1, 1, &[Item::Everybody, present(5), Item::NobodyElse]));
        here.hear(content("a", 2, 1, &[Item::Everybody, Item::NobodyElse]));
        assert_eq!(here.keys(), ["5"], "another run of it has nobody yet");
        assert!(here.hear(content("b", 1, 2, &[Item::Bye])).look);
        assert!(here.keys().is_empty());
    }

    #[test]
    fn silence_counts_only_while_we_hear_ourselves() {
        let (mut peers, hub, start) = (Peers::default(), Hub::default(), Instant::now());
        let me = Held {
            node: Node::new("me"),
            run: Uuid::nil(),
        };
        peers.hear(me, content("a", 1, 1, &[]), &hub, start);
        assert!(peers.silent().is_empty());
        peers.hear(me, content("me", 0, 1, &[]), &hub, start + SILENCE);
        assert!(peers.silent().is_empty());
        peers.hear(me, content("me", 0, 2, &[]), &hub, start + SILENCE * 2);
        assert_eq!(peers.silent(), [Node::new("a")]);
    }
}
