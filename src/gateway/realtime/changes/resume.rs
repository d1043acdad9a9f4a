//! Channels whose client lost its connection, so that it can go on where it was when it joins again.
//!
//! A client says nothing of having been here before. It is known by whom it acts for, its topic and its bindings, and
//! among several such (tabs of one browser) by its refs: a client numbers its messages and goes on numbering when it
//! connects again, so whoever joins with a lower number than was seen is somebody else.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    position::Position,
    registry::{Registered, Subscription},
    subscribe::Binding,
};
use crate::gateway::realtime::{delivery::Delivery, listener::Listener, token::Identity};

/// Who joined what; the same for the same client on the same channel, with whichever token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The key of a channel. `agent` is the client's own name for what it is.
    pub fn new(identity: &Identity, agent: &str, topic: &str, private: bool, bindings: &[Binding]) -> Self {
        let claim = |name: &str| {
            let value = identity.claims.get(name);
            value.map(ToString::to_string).unwrap_or_default()
        };
        let bindings: Vec<String> = bindings
            .iter()
            .map(|binding| serde_json::Value::from(binding.params.clone()).to_string())
            .collect();
        let mut digest = Sha256::new();
        let parts = [&identity.role, &claim("sub"), &claim("session_id"), agent, topic];
        for part in parts.into_iter().chain(bindings.iter().map(String::as_str)) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update([u8::from(private)]);
        Self(digest.finalize().into())
    }
}

/// The number of the last message that came from a socket.
#[derive(Clone, Debug, Default)]
pub struct LastRef(Arc<AtomicU64>);

impl LastRef {
    /// Notes a message's `ref`.
    pub fn saw(&self, reference: Option<&str>) {
        if let Some(number) = reference.and_then(|text| text.parse().ok()) {
            self.0.fetch_max(number, Ordering::Relaxed);
        }
    }

    /// The number; zero before the first.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A channel that may lose its client, or has.
#[derive(Debug)]
struct Known {
    id: Uuid,
    last_ref: LastRef,
    delivery: Arc<Delivery>,
    lost: Option<Lost>,
}

/// What is known of a client when it is lost.
#[derive(Debug)]
struct Lost {
    since: Instant,
    last_ref: u64,
    /// Where it has to go on.
    from: Position,
}

impl Known {
    /// The number of its client's last message, if it may be gone: it is lost, or its socket does not answer.
    fn absent(&self) -> Option<u64> {
        match &self.lost {
            Some(lost) => Some(lost.last_ref),
            None => self.delivery.is_underway().then(|| self.last_ref.get()),
        }
    }
}

/// The place of a channel that its client takes as it comes back.
#[derive(Debug)]
pub struct Claimed {
    /// The channel's.
    pub id: Uuid,
    /// Where it has to go on.
    pub from: Position,
    known: Known,
}

/// All channels of this gateway that could be resumed.
#[derive(Debug, Default)]
pub struct Resumable {
    channels: Mutex<HashMap<Key, Vec<Known>>>,
    entering: AtomicU64,
}

/// A channel is about to join.
#[derive(Debug)]
pub struct Entering<'a>(&'a Resumable);

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        self.0.entering.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Resumable {
    /// A channel is about to join, and it is not known yet what waits for it.
    pub fn entering(&self) -> Entering<'_> {
        self.entering.fetch_add(1, Ordering::SeqCst);
        Entering(self)
    }

    /// A channel has joined.
    pub fn joined(&self, key: Key, id: Uuid, last_ref: LastRef, delivery: Arc<Delivery>) {
        let known = Known {
            id,
            last_ref,
            delivery,
            lost: None,
        };
        self.lock().entry(key).or_default().push(known);
    }

    /// A channel has ended for good.
    pub fn left(&self, key: &Key, id: Uuid) {
        let mut channels = self.lock();
        if let Some(known) = channels.get_mut(key) {
            known.retain(|known| known.id != id);
            if known.is_empty() {
                channels.remove(key);
            }
        }
    }

    /// A channel has lost its client. Everything before `next` was looked at for it. Gives where it has to go on, which
    /// is noted before anybody can ask for [`Resumable::behind`]; nothing if it is back already.
    pub fn lost(&self, key: &Key, id: Uuid, next: Position, note: impl FnOnce(Position)) -> Option<Position> {
        let mut channels = self.lock();
        let known = channels.get_mut(key)?.iter_mut().find(|known| known.id == id)?;
        let from = known.delivery.resume_at(next);
        known.lost = Some(Lost {
            since: Instant::now(),
            last_ref: known.last_ref.get(),
            from,
        });
        note(from);
        Some(from)
    }

    /// The channel that a client joining with `join_ref` had, and where it has to go on: one that is lost, or one
    /// whose socket does not answer and may be lost without our knowing.
    pub fn claim(&self, key: &Key, join_ref: u64) -> Option<Claimed> {
        let mut channels = self.lock();
        let known = channels.get_mut(key)?;
        let (at, _) = known
            .iter()
            .enumerate()
            .filter_map(|(at, known)| Some((at, known.absent().filter(|last| *last < join_ref)?)))
            .max_by_key(|(_, last)| *last)?;
        let channel = known.swap_remove(at);
        if known.is_empty() {
            channels.remove(key);
        }
        let from = match &channel.lost {
            Some(lost) => lost.from,
            None => channel.delivery.resume_at(Position::default()),
        };
        Some(Claimed {
            id: channel.id,
            from,
            known: channel,
        })
    }

    /// Gives a place back whose client could not join after all.
    pub fn put_back(&self, key: Key, claimed: Claimed) {
        self.lock().entry(key).or_default().push(claimed.known);
    }

    /// Before which place the clients that are here have had everything, as far as something is on its way to them.
    pub fn behind(&self) -> Option<Position> {
        let channels = self.lock();
        if self.entering.load(Ordering::SeqCst) > 0 {
            return Some(Position::default());
        }
        let here = channels.values().flatten().filter(|known| known.lost.is_none());
        here.filter(|known| known.delivery.is_underway())
            .map(|known| known.delivery.resume_at(Position::default()))
            .min()
    }

    /// Forgets those who did not come back for so long.
    pub fn expire(&self, window: Duration) {
        self.lock().retain(|_, known| {
            known.retain(|known| known.lost.as_ref().is_none_or(|lost| lost.since.elapsed() < window));
            !known.is_empty()
        });
    }

    /// Whether every channel has left or lost its client.
    pub fn is_quiet(&self) -> bool {
        self.lock().values().flatten().all(|known| known.lost.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Known>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel on its way back, for the loop of changes.
#[derive(Debug)]
pub struct Returning {
    /// Its receiving end.
    pub listener: Arc<Listener>,
    /// What it wants.
    pub subscriptions: Vec<Subscription>,
    /// Its first change that may not have arrived.
    pub from: Position,
    /// Its subscriptions' numbers, once they have some.
    pub registered: Registered,
    /// Where to tell them.
    pub back: oneshot::Sender<Registered>,
}

impl Returning {
    /// Tells the client that changes are missing.
    pub fn tell_gap(&self) {
        let message = "Changes made while the connection was lost are no longer there to be sent; load them again";
        self.listener.system("postgres_changes", "error", message);
    }

    /// The channel takes part from here on.
    pub fn done(self) {
        // Who joined waits for it, unless the process is ending.
        let _ = self.back.send(self.registered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key([7; 32])
    }

    fn joined(resumable: &Resumable, last: u64) -> (Uuid, Arc<Delivery>) {
        let (id, delivery, last_ref) = (Uuid::new_v4(), Arc::new(Delivery::default()), LastRef::default());
        last_ref.saw(Some(&last.to_string()));
        resumable.joined(key(), id, last_ref, Arc::clone(&delivery));
        (id, delivery)
    }

    fn claim(resumable: &Resumable, join_ref: u64) -> Option<(Uuid, Position)> {
        let claimed = resumable.claim(&key(), join_ref)?;
        Some((claimed.id, claimed.from))
    }

    #[test]
    fn a_client_goes_on_where_it_was_and_only_once() {
        let (resumable, next) = (Resumable::default(), Position::new(50, 0));
        let (id, _) = joined(&resumable, 9);
        assert_eq!(claim(&resumable, 10), None, "it is still there");
        resumable.lost(&key(), id, next, |_| ());
        assert!(resumable.is_quiet());
        assert_eq!(claim(&resumable, 3), None, "a new tab counts from one");
        assert_eq!(claim(&resumable, 10), Some((id, next)));
        assert_eq!(claim(&resumable, 10), None);
    }

    #[test]
    fn a_client_whose_join_failed_finds_its_place_again() {
        let (resumable, next) = (Resumable::default(), Position::new(50, 0));
        let (id, _) = joined(&resumable, 9);
        resumable.lost(&key(), id, next, |_| ());
        let claimed = resumable.claim(&key(), 10).unwrap();
        resumable.put_back(key(), claimed);
        assert_eq!(claim(&resumable, 11), Some((id, next)));
    }

    #[test]
    fn of_several_tabs_each_finds_its_own() {
        let resumable = Resumable::default();
        let ids = [12, 40].map(|last| joined(&resumable, last).0);
        for id in ids {
            resumable.lost(&key(), id, Position::default(), |_| ());
        }
        assert_eq!(claim(&resumable, 41).map(|(id, _)| id), Some(ids[1]));
        assert_eq!(claim(&resumable, 13).map(|(id, _)| id), Some(ids[0]));
    }

    #[test]
    fn a_socket_that_does_not_answer_is_taken_over() {
        let resumable = Resumable::default();
        let (id, delivery) = joined(&resumable, 5);
        delivery.sent(Position::new(8, 1));
        assert_eq!(resumable.behind(), Some(Position::new(8, 1)));
        assert_eq!(claim(&resumable, 6), Some((id, Position::new(8, 1))));
        assert_eq!(resumable.lost(&key(), id, Position::default(), |_| ()), None);
        assert_eq!(resumable.behind(), None);
    }
}
