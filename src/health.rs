//! What each part of the process says about itself; `GET /health` shows it.
//!
//! It stands beside gateway and worker because those never name each other.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The parts of a process and their states.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
}

impl Health {
    /// Adds a part, which is not ready until it says so.
    pub fn part(&self, name: &'static str) -> Part {
        let part = Part {
            name,
            health: self.clone(),
        };
        part.failing("starting");
        part
    }

    /// Each part's name with `Ok` or what is wrong with it.
    pub fn report(&self) -> BTreeMap<&'static str, Result<(), String>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, name: &'static str, state: Result<(), String>) {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, state);
    }
}

/// One part's own handle.
#[derive(Clone, Debug)]
pub struct Part {
    name: &'static str,
    health: Health,
}

impl Part {
    /// The part works.
    pub fn ready(&self) {
        self.health.set(self.name, Ok(()));
    }

    /// The part does not work, and why; never a secret, as `/health` is public.
    pub fn failing(&self, reason: &str) {
        self.health.set(self.name, Err(reason.to_owned()));
    }
}
