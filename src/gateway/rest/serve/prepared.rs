//! What requests of one shape come to, found out once and kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::super::{
    media::Form,
    parse::range::Range,
    reply::Did,
    sql::{Sql, answer::Guard},
};

/// As many shapes are kept as were asked for last, this many at least and twice as many at most.
const SHAPES: usize = 512;

/// Requests with longer keys are not remembered.
const MAX_KEY: usize = 4 << 10;

/// What all requests of one shape come to.
#[derive(Debug)]
pub struct Prepared {
    /// The statement.
    pub statement: Sql,
    /// Rows that the planner is to estimate.
    pub estimate: Option<Sql>,
    /// Whether it must not write.
    pub read_only: bool,
    /// When it takes itself back.
    pub guards: Vec<Guard>,
    /// The form of the answer.
    pub form: Form,
    /// What is done.
    pub did: Did,
    /// Which rows are asked for.
    pub range: Range,
    /// What `Preference-Applied` says.
    pub applied: String,
    /// The key by which the answer tells where a new row is.
    pub located_by: Option<Vec<String>>,
    /// What the client should do otherwise.
    pub warning: Option<String>,
}

/// The shapes that were asked for last, as one reading of the catalog understands them.
///
/// In two generations: what is found in the old one moves to the young one, and when that is full the old one goes.
#[derive(Debug, Default)]
pub struct Memory {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Vec<u8>, Arc<Prepared>>,
    old: HashMap<Vec<u8>, Arc<Prepared>>,
}

impl Memory {
    /// What requests of this key come to, if one was asked for lately.
    pub fn get(&self, key: &[u8]) -> Option<Arc<Prepared>> {
        let mut generations = self.lock();
        if let Some(prepared) = generations.young.get(key) {
            return Some(Arc::clone(prepared));
        }
        let (key, prepared) = generations.old.remove_entry(key)?;
        generations.insert(key, Arc::clone(&prepared));
        Some(prepared)
    }

    /// Keeps what requests of this key come to.
    pub fn put(&self, key: &[u8], prepared: &Arc<Prepared>) {
        if key.len() <= MAX_KEY {
            self.lock().insert(key.to_vec(), Arc::clone(prepared));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn insert(&mut self, key: Vec<u8>, prepared: Arc<Prepared>) {
        if self.young.len() >= SHAPES {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, prepared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_and_again_is_kept_among_many_others() {
        let memory = Memory::default();
        let prepared = Arc::new(Prepared {
            statement: Sql::default(),
            estimate: None,
            read_only: true,
            guards: Vec::new(),
            form: Form {
                content_type: String::new(),
                body: super::super::super::sql::answer::Body::None,
                single: false,
                plan: None,
            },
            did: Did::Read,
            range: Range::default(),
            applied: String::new(),
            located_by: None,
            warning: None,
        });
        memory.put(b"kept", &prepared);
        for number in 0..10 * SHAPES {
            memory.put(&number.to_le_bytes(), &prepared);
            assert!(memory.get(b"kept").is_some(), "{number}");
        }
        assert!(memory.get(&0_usize.to_le_bytes()).is_none());
        let kept = memory.lock();
        assert!(kept.young.len() + kept.old.len() <= 2 * SHAPES);
        drop(kept);
        let long = vec![0; MAX_KEY + 1];
        memory.put(&long, &prepared);
        assert!(memory.get(&long).is_none());
    }
}
