//! Who is on which topic of this gateway: broadcasts and presence.
//!
//! Broadcasts from sockets and presence stay within one gateway; broadcasts from the database reach all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::Message;
use serde_json::{Map, Value};

use super::{
    listener::Listener,
    presence::{Diff, Presence},
    protocol::Version,
};

/// A topic. Public and private ones of one name have nothing to do with each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Its name, without `realtime:`.
    pub name: String,
    /// Whether policies say who may read and write it.
    pub private: bool,
}

/// What a channel may do of a kind (read, or write) on its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Broadcasts.
    pub broadcast: bool,
    /// Presence.
    pub presence: bool,
}

impl Rights {
    /// What everybody may do on a public topic.
    pub const ALL: Self = Self {
        broadcast: true,
        presence: true,
    };
}

/// All topics with somebody on them.
#[derive(Debug, Default)]
pub struct Hub {
    rooms: Mutex<HashMap<Topic, Room>>,
}

#[derive(Debug, Default)]
struct Room {
    members: HashMap<u64, (Arc<Listener>, Rights)>,
    presence: Presence,
}

/// A channel's place on its topic; it ends with the channel.
#[derive(Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    topic: Topic,
    id: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut rooms = self.hub.lock();
        let Some(room) = rooms.get_mut(&self.topic) else { return };
        room.members.remove(&self.id);
        if room.members.is_empty() {
            rooms.remove(&self.topic);
        } else {
            let diff = room.presence.untrack(self.id);
            room.tell(diff);
        }
    }
}

impl Hub {
    /// Puts a channel on a topic, able to read as much.
    pub fn join(self: &Arc<Self>, topic: Topic, listener: &Arc<Listener>, rights: Rights) -> Membership {
        self.lock()
            .entry(topic.clone())
            .or_default()
            .members
            .insert(listener.id, (Arc::clone(listener), rights));
        Membership {
            hub: Arc::clone(self),
            topic,
            id: listener.id,
        }
    }

    /// Sends to everybody on a topic who may read broadcasts, apart from one channel; a message of the database has an
    /// `id`. `frame` is called once for each version that is listening, with the topic as it stands in frames; what it
    /// cannot write is not sent.
    pub fn broadcast(
        &self,
        topic: &Topic,
        except: Option<u64>,
        id: Option<&str>,
        frame: impl Fn(Version, &str) -> Option<Message>,
    ) {
        let rooms = self.lock();
        let Some(room) = rooms.get(topic) else { return };
        let mut frames: HashMap<Version, Option<Message>> = HashMap::new();
        for (listener, rights) in room.members.values() {
            if !rights.broadcast || except == Some(listener.id) {
                continue;
            }
            let frame = frames
                .entry(listener.version)
                .or_insert_with(|| frame(listener.version, &listener.topic));
            match (frame, id) {
                (Some(frame), Some(id)) => listener.send_message(frame.clone(), id),
                (Some(frame), None) => listener.send(frame.clone()),
                (None, _) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Changes what the channel may read.
    pub fn set_rights(&self, rights: Rights) {
        if let Some(room) = self.hub.lock().get_mut(&self.topic)
            && let Some((_, current)) = room.members.get_mut(&self.id)
        {
            *current = rights;
        }
    }

    /// Broadcasts from this channel; to itself only if it wants that.
    pub fn broadcast(&self, to_itself: bool, frame: impl Fn(Version, &str) -> Option<Message>) {
        self.hub
            .broadcast(&self.topic, (!to_itself).then_some(self.id), None, frame);
    }

    /// Says who the channel is present as.
    pub fn track(&self, key: &str, payload: Map<String, Value>) {
        let mut rooms = self.hub.lock();
        if let Some(room) = rooms.get_mut(&self.topic) {
            let diff = room.presence.track(self.id, key, payload);
            room.tell(diff);
        }
    }

    /// Says that it is not any more.
    pub fn untrack(&self) {
        let mut rooms = self.hub.lock();
        if let Some(room) = rooms.get_mut(&self.topic) {
            let diff = room.presence.untrack(self.id);
            room.tell(diff);
        }
    }

    /// Sends the channel who is present. Under the lock, so that every later difference comes after it.
    pub fn send_presence_state(&self) {
        if let Some(room) = self.hub.lock().get(&self.topic)
            && let Some((listener, _)) = room.members.get(&self.id)
        {
            listener.push("presence_state", &room.presence.state().to_string());
        }
    }
}

impl Room {
    fn tell(&self, diff: Option<Diff>) {
        let Some(diff) = diff else { return };
        let payload = diff.to_json().to_string();
        for (listener, rights) in self.members.values() {
            if rights.presence {
                let frame = listener
                    .version
                    .text(None, None, &listener.topic, "presence_diff", &payload);
                listener.send(frame);
            }
        }
    }
}
