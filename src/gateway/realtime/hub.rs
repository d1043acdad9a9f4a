//! Who is on which topic: the channels of this gateway, and who is present here and at other gateways.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::extract::ws::Message;
use serde_json::{Map, Value};
use tokio::{sync::Notify, time::sleep};

use super::{
    cluster::Node,
    listener::Listener,
    presence::{Diff, Entry, Owner, Presence},
    protocol::Version,
};
use crate::shutdown::Shutdown;

/// How long changes of presence are gathered where others were told just before; Phoenix gathers for 1.5 seconds.
const GATHER: Duration = Duration::from_millis(50);
/// Changes of presence that may wait for other gateways; with more, they are told of everybody instead.
const MAX_NEWS: usize = 16_384;

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
    state: Mutex<State>,
    /// Woken when there is news.
    pub has_news: Notify,
    has_late: Notify,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<Topic, Room>,
    /// What changed where something was told a moment ago.
    late: HashMap<Topic, Diff>,
    /// What other gateways have to hear of who is present here; nothing where there are none.
    news: Option<News>,
}

/// A channel of this gateway.
pub type Place = (Topic, u64);

/// What other gateways have to hear of who is present here.
#[derive(Debug, PartialEq)]
pub enum News {
    /// What some channels say now, if anything.
    Changes(HashMap<Place, Option<Entry>>),
    /// Everybody; as news that waits, without them.
    Everybody(Vec<(Place, Entry)>),
}

#[derive(Debug, Default)]
struct Room {
    members: HashMap<u64, (Arc<Listener>, Rights)>,
    presence: Presence,
    /// When its channels were last told who came and went.
    told: Option<Instant>,
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
        let mut state = self.hub.lock();
        if let Some(room) = state.rooms.get_mut(&self.topic) {
            room.members.remove(&self.id);
        }
        self.hub.untrack(&mut state, &self.topic, self.id);
        state.tidy(&self.topic);
    }
}

impl Hub {
    /// Puts a channel on a topic, able to read as much.
    pub fn join(self: &Arc<Self>, topic: Topic, listener: &Arc<Listener>, rights: Rights) -> Membership {
        self.lock()
            .rooms
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
        let state = self.lock();
        let Some(room) = state.rooms.get(topic) else { return };
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

    /// Whether there are other gateways, who have to hear who is present.
    pub fn has_others(&self, others: bool) {
        let mut state = self.lock();
        match (others, &state.news) {
            (false, _) => state.news = None,
            (true, None) => self.note_everybody(&mut state),
            (true, Some(_)) => {}
        }
    }

    /// Lets the other gateways, if there are any, hear of everybody who is present.
    pub fn tell_everybody(&self) {
        let mut state = self.lock();
        if state.news.is_some() {
            self.note_everybody(&mut state);
        }
    }

    fn note_everybody(&self, state: &mut State) {
        state.news = Some(News::Everybody(Vec::new()));
        self.has_news.notify_one();
    }

    /// What the other gateways have to hear, once.
    pub fn take_news(&self) -> Option<News> {
        let mut state = self.lock();
        let news = std::mem::replace(state.news.as_mut()?, News::Changes(HashMap::new()));
        match news {
            News::Changes(changes) if changes.is_empty() => None,
            News::Changes(changes) => Some(News::Changes(changes)),
            News::Everybody(_) => Some(News::Everybody(state.everybody())),
        }
    }

    /// What a channel of another gateway says now, if anything.
    pub fn hear(&self, node: Node, (topic, channel): Place, entry: Option<Entry>) {
        let (mut state, owner) = (self.lock(), Owner::At(node, channel));
        let diff = match entry {
            Some(entry) => {
                let room = state.rooms.entry(topic.clone()).or_default();
                room.presence.put(owner, entry)
            }
            None => state
                .rooms
                .get_mut(&topic)
                .and_then(|room| room.presence.untrack(owner)),
        };
        self.tell(&mut state, &topic, diff);
    }

    /// Everybody who is present at another gateway; whoever else was is not any more.
    pub fn hear_everybody(&self, node: Node, everybody: Vec<(Place, Entry)>) {
        let mut state = self.lock();
        let mut diffs: HashMap<Topic, Diff> = HashMap::new();
        let mut merge = |topic: &Topic, diff: Option<Diff>| {
            if let Some(diff) = diff {
                diffs.entry(topic.clone()).or_default().merge(diff);
            }
        };
        let at = |(topic, room): (&Topic, &Room)| (topic.clone(), room.presence.at(node));
        let mut gone: HashMap<Topic, HashSet<u64>> = state.rooms.iter().map(at).collect();
        for ((topic, channel), entry) in everybody {
            if let Some(gone) = gone.get_mut(&topic) {
                gone.remove(&channel);
            }
            let room = state.rooms.entry(topic.clone()).or_default();
            merge(&topic, room.presence.put(Owner::At(node, channel), entry));
        }
        for (topic, channels) in gone {
            let Some(room) = state.rooms.get_mut(&topic) else {
                continue;
            };
            for channel in channels {
                merge(&topic, room.presence.untrack(Owner::At(node, channel)));
            }
        }
        for (topic, diff) in diffs {
            self.tell(&mut state, &topic, Some(diff));
        }
    }

    /// The keys of those who are present on a topic.
    #[cfg(test)]
    pub fn present(&self, topic: &Topic) -> Vec<String> {
        let state = self.lock();
        state
            .rooms
            .get(topic)
            .map(|room| room.presence.keys())
            .unwrap_or_default()
    }

    /// Notes and tells that a channel is not present any more.
    fn untrack(&self, state: &mut State, topic: &Topic, id: u64) {
        let room = state.rooms.get_mut(topic);
        let diff = room.and_then(|room| room.presence.untrack(Owner::Here(id)));
        if diff.is_some() {
            self.note(state, topic, id, None);
        }
        self.tell(state, topic, diff);
    }

    fn note(&self, state: &mut State, topic: &Topic, id: u64, entry: Option<Entry>) {
        if let Some(News::Changes(changes)) = &mut state.news {
            changes.insert((topic.clone(), id), entry);
            if changes.len() > MAX_NEWS {
                return self.note_everybody(state);
            }
            self.has_news.notify_one();
        }
    }

    /// Tells a topic's channels what changed: at once, or together with what else changes in a moment. Of a thousand that
    /// come or go at once, each would else be told a thousand times, and be too far behind.
    fn tell(&self, state: &mut State, topic: &Topic, diff: Option<Diff>) {
        if let (Some(room), Some(diff)) = (state.rooms.get_mut(topic), diff) {
            if let Some(late) = state.late.get_mut(topic) {
                late.merge(diff);
            } else if room.told.is_some_and(|told| told.elapsed() < GATHER) {
                state.late.insert(topic.clone(), diff);
                self.has_late.notify_one();
            } else {
                room.tell(&diff);
            }
        }
        state.tidy(topic);
    }

    /// Tells what was put off, until the process is to stop.
    pub async fn tell_late(&self, stop: Shutdown) {
        let tell = async {
            loop {
                self.has_late.notified().await;
                sleep(GATHER).await;
                let mut state = self.lock();
                for (topic, diff) in std::mem::take(&mut state.late) {
                    if let Some(room) = state.rooms.get_mut(&topic) {
                        room.tell(&diff);
                    }
                }
            }
        };
        stop.token().run_until_cancelled(tell).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn everybody(&self) -> Vec<(Place, Entry)> {
        let places = self.rooms.iter().flat_map(|(topic, room)| {
            let here = room.presence.here();
            here.map(|(channel, entry)| ((topic.clone(), channel), entry.clone()))
        });
        places.collect()
    }

    /// A topic that is nobody's is none.
    fn tidy(&mut self, topic: &Topic) {
        let empty = |room: &Room| room.members.is_empty() && room.presence.is_empty();
        if self.rooms.get(topic).is_some_and(empty) {
            self.rooms.remove(topic);
        }
    }
}

impl Membership {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Changes what the channel may read.
    pub fn set_rights(&self, rights: Rights) {
        if let Some(room) = self.hub.lock().rooms.get_mut(&self.topic)
            && let Some((_, current)) = room.members.get_mut(&self.id)
        {
            *current = rights;
        }
    }

    /// The channel, if its broadcasts are not for itself.
    pub fn except(&self, to_itself: bool) -> Option<u64> {
        (!to_itself).then_some(self.id)
    }

    /// Says who the channel is present as.
    pub fn track(&self, key: &str, payload: Map<String, Value>) {
        let mut state = self.hub.lock();
        let room = state.rooms.get_mut(&self.topic);
        if let Some((entry, diff)) = room.and_then(|room| room.presence.track(self.id, key, payload)) {
            self.hub.note(&mut state, &self.topic, self.id, Some(entry));
            self.hub.tell(&mut state, &self.topic, Some(diff));
        }
    }

    /// Says that it is not any more.
    pub fn untrack(&self) {
        self.hub.untrack(&mut self.hub.lock(), &self.topic, self.id);
    }

    /// Sends the channel who is present. Under the lock, so that every later difference comes after it.
    pub fn send_presence_state(&self) {
        if let Some(room) = self.hub.lock().rooms.get(&self.topic)
            && let Some((listener, _)) = room.members.get(&self.id)
        {
            listener.push("presence_state", &room.presence.state());
        }
    }
}

impl Room {
    fn tell(&mut self, diff: &Diff) {
        self.told = Some(Instant::now());
        let payload = diff.to_json();
        let mut frames: HashMap<Version, Message> = HashMap::new();
        for (listener, rights) in self.members.values() {
            if rights.presence {
                let Listener { version, topic, .. } = &**listener;
                let frame = frames
                    .entry(*version)
                    .or_insert_with(|| version.text(None, None, topic, "presence_diff", &payload));
                listener.send(frame.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::gateway::realtime::{listener::Failures, outbox::Outbox};

    #[tokio::test]
    async fn many_who_come_at_once_are_told_together() {
        let (hub, shutdown) = (Arc::new(Hub::default()), Shutdown::default());
        let topic = Topic {
            name: "a".into(),
            private: false,
        };
        let (outbox, mut waiting) = Outbox::new();
        let join = |rights| {
            let (outbox, failures) = (outbox.clone(), Failures::default());
            let listener = Listener::new("realtime:a".into(), None, Version::V2, false, outbox, failures);
            hub.join(topic.clone(), &listener, rights)
        };
        let _watching = join(Rights::ALL);
        let others: Vec<Membership> = (0..1_500).map(|_| join(Rights::default())).collect();
        for (number, other) in others.iter().enumerate() {
            other.track(&number.to_string(), Map::new());
        }
        let told = tokio::spawn({
            let (hub, shutdown) = (Arc::clone(&hub), shutdown.clone());
            async move { hub.tell_late(shutdown).await }
        });
        let mut come = 0;
        while come < others.len() {
            let (frame, _) = timeout(Duration::from_secs(10), waiting.next()).await.unwrap();
            let Message::Text(text) = frame else { panic!("no text") };
            come += text.matches("\"metas\"").count();
        }
        assert_eq!(come, others.len());
        assert!(!outbox.is_given_up(), "too far behind, for one frame each");
        shutdown.start();
        told.await.unwrap();
    }
}
