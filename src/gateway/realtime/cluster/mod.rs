//! The gateways on one database: broadcasts and presence reach the clients of all of them.
//!
//! Each owns its clients and tells the others of them over a bus that all read anyway, the write-ahead log. A gateway
//! that is alone says nothing.
//!
//! - [`node`] what a gateway is called, [`roster`] who is there
//! - [`bus`] what is said to the others, [`wire`] how; [`peers`] what is heard of them
//! - [`dead`] what those leave who end without a word

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    broadcast::Broadcast,
    error::ChannelError,
    hub::{Hub, Topic},
};
use crate::{db::Database, shutdown::Shutdown};
use bus::Bus;
pub use bus::PREFIX;
use dead::Dead;
pub use node::Node;
use peers::Peers;
use roster::Roster;
use wire::Item;

mod bus;
mod dead;
mod node;
mod peers;
mod roster;
mod wire;

/// A name that this gateway has, and the run it is in: with another run, nothing of before is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The name.
    pub node: Node,
    /// The run.
    pub run: Uuid,
}

/// This gateway among the others.
#[derive(Debug)]
pub struct Cluster {
    hub: Arc<Hub>,
    bus: Arc<Bus>,
    held: watch::Receiver<Option<Held>>,
    peers: Mutex<Peers>,
    /// Somebody has come or gone.
    look: Notify,
}

impl Cluster {
    /// Takes a name and looks who else is there. `identity` is what the name is made of; slots of those who are gone
    /// are dropped after `keep_slot`.
    pub fn start(
        database: &Database,
        pool: &PgPool,
        identity: String,
        hub: &Arc<Hub>,
        keep_slot: Duration,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let (holding, held) = watch::channel(None);
        let (bus, queue) = Bus::new();
        let (bus, hub) = (Arc::new(bus), Arc::clone(hub));
        let writer = bus::Writer::new(
            (Arc::clone(&bus), queue),
            Arc::clone(&hub),
            pool.clone(),
            held.clone(),
            shutdown.clone(),
        );
        let cluster = Arc::new(Self {
            hub,
            bus,
            held,
            peers: Mutex::default(),
            look: Notify::new(),
        });
        let roster = Roster {
            cluster: Arc::downgrade(&cluster),
            database: database.clone(),
            pool: pool.clone(),
            identity,
            held: holding,
            dead: Dead::new(keep_slot),
            missing: HashMap::new(),
        };
        // The name is given back when the last word has been said.
        let ended = CancellationToken::new();
        let last = ended.clone();
        shutdown.spawn(async move {
            writer.run().await;
            last.cancel();
        });
        shutdown.spawn(roster.keep(ended));
        cluster
    }

    /// The name this gateway has; nothing until it could take one.
    pub fn held(&self) -> watch::Receiver<Option<Held>> {
        self.held.clone()
    }

    /// Broadcasts to the clients of all gateways who may read the topic, apart from one channel of this one.
    ///
    /// # Errors
    /// When it cannot reach the other gateways. Clients of this one have it all the same.
    pub fn broadcast(&self, topic: &Topic, except: Option<u64>, broadcast: Broadcast) -> Result<(), ChannelError> {
        self.hub
            .broadcast(topic, except, None, |version, topic| broadcast.frame(version, topic));
        if self.is_alone() {
            return Ok(());
        }
        self.bus.say(&Item::Broadcast(topic.clone(), broadcast))
    }

    /// Whether a broadcast would reach the other gateways, if there are any.
    ///
    /// # Errors
    /// When the database does not take it.
    pub fn check(&self) -> Result<(), ChannelError> {
        self.bus.check()
    }

    /// Takes in what came over the bus.
    pub fn hear(&self, content: Bytes) {
        let Some(me) = *self.held.borrow() else { return };
        let heard = self.peers().hear(me, content, &self.hub, Instant::now());
        if heard.ask {
            self.bus.ask();
        }
        if heard.look {
            self.look.notify_one();
        }
    }

    /// What is said from here on is heard.
    pub fn listens(&self) {
        self.bus.ask();
    }

    /// Whether there are no others.
    pub fn is_alone(&self) -> bool {
        self.bus.is_alone()
    }

    fn has_others(&self, others: bool) {
        self.bus.has_others(others);
        self.hub.has_others(others);
    }

    /// The gateways that have been heard.
    fn heard(&self) -> Vec<Node> {
        self.peers().nodes()
    }

    /// Nobody is present at a gateway any more.
    fn forget(&self, node: Node) {
        self.peers().forget(node, &self.hub);
    }

    fn forget_silent(&self) {
        let mut peers = self.peers();
        for node in peers.silent() {
            tracing::warn!(node = node.name(), "a gateway lives and says nothing");
            peers.forget(node, &self.hub);
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
