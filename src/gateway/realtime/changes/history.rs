//! The changes of the last minutes, for clients that lost their connection.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use pgwire_replication::Lsn;

use super::{position::Position, stream::Streamed};

/// How many bytes of them at most.
const MAX_BYTES: usize = 64 << 20;
/// How many bytes of log the slot keeps for them at most: a server gives a slot up that keeps too much, and tables that
/// are not published write to the log too.
const MAX_LOG: u64 = 512 << 20;

/// The last changes, oldest first.
#[derive(Debug)]
pub struct History {
    /// How long they are kept, which is how long a client may be away.
    window: Duration,
    kept: VecDeque<Streamed>,
    /// When so many of them had been streamed: one entry for each batch.
    batches: VecDeque<Batch>,
    bytes: usize,
    /// The log before this place need not be kept for them.
    start: Position,
    /// The changes before this place are not here any more.
    gone: Position,
}

#[derive(Debug)]
struct Batch {
    arrived: Instant,
    changes: usize,
    /// The slot may be told this once the batch has gone.
    end: Lsn,
}

impl History {
    /// Nothing yet; changes are kept for so long.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            kept: VecDeque::new(),
            batches: VecDeque::new(),
            bytes: 0,
            start: Position::default(),
            gone: Position::default(),
        }
    }

    /// Keeps a batch that ends at `end`; lets go of what is too old or too much.
    pub fn keep(&mut self, batch: Vec<Streamed>, end: Lsn, now: Instant) {
        // An idle stream moves too: one entry a second is enough to say how far.
        let joins_last = self
            .batches
            .back()
            .is_some_and(|last| now.duration_since(last.arrived) < Duration::from_secs(1));
        if let (true, Some(last)) = (joins_last, self.batches.back_mut()) {
            last.changes += batch.len();
            last.end = end;
        } else {
            self.batches.push_back(Batch {
                arrived: now,
                changes: batch.len(),
                end,
            });
        }
        self.bytes += batch.iter().map(Streamed::size).sum::<usize>();
        self.kept.extend(batch);
        while let Some(first) = self.batches.front()
            && (now.duration_since(first.arrived) > self.window || self.bytes > MAX_BYTES && self.batches.len() > 1)
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some(Batch { changes, end, .. }) = self.batches.pop_front() else {
            return;
        };
        for streamed in self.kept.drain(..changes) {
            self.bytes -= streamed.size();
            self.gone = streamed.position.next();
        }
        self.start = Position::new(end.0, 0);
    }

    /// Begins anew at a place.
    pub fn clear(&mut self, start: Position) {
        *self = Self {
            start,
            gone: start,
            ..Self::new(self.window)
        };
    }

    /// Whether changes from a place on are missing.
    pub fn has_gap(&self, from: Position) -> bool {
        from < self.gone
    }

    /// Up to where Postgres need not keep the log for us, when the stream has been read up to `read`: what is here
    /// is needed again after a restart.
    pub fn dispensable(&self, read: Lsn) -> Lsn {
        if self.batches.is_empty() {
            return read;
        }
        Lsn(self.start.commit.max(read.0.saturating_sub(MAX_LOG)))
    }

    /// The changes from a place on, in parts in each of which every table looks one way.
    pub fn since(&mut self, from: Position) -> Vec<&[Streamed]> {
        let kept: &[Streamed] = self.kept.make_contiguous();
        let first = kept.partition_point(|streamed| streamed.position < from);
        parts(&kept[first..])
    }
}

fn parts(changes: &[Streamed]) -> Vec<&[Streamed]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let mut looks = std::collections::HashMap::new();
    for (at, streamed) in changes.iter().enumerate() {
        let relation = &streamed.relation;
        let look = *looks
            .entry(relation.oid)
            .or_insert_with(|| std::sync::Arc::as_ptr(relation));
        if look != std::sync::Arc::as_ptr(relation) {
            parts.push(&changes[start..at]);
            start = at;
            looks.clear();
            looks.insert(relation.oid, std::sync::Arc::as_ptr(relation));
        }
    }
    parts.push(&changes[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const AGE: Duration = Duration::from_secs(120);
    use crate::gateway::realtime::changes::pgoutput::{Cell, Change, Identity, Kind, Relation};

    fn relation() -> Arc<Relation> {
        Arc::new(Relation {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            identity: Identity::Default,
            columns: Vec::new(),
        })
    }

    fn change(relation: &Arc<Relation>, commit: u64, number: u32, bytes: usize) -> Streamed {
        Streamed {
            position: Position::new(commit, number),
            committed: 0,
            relation: Arc::clone(relation),
            change: Change {
                relation: 1,
                kind: Kind::Insert,
                old: None,
                new: Some(vec![Cell::Text(vec![b'x'; bytes].into())]),
            },
        }
    }

    fn places(history: &mut History, from: Position) -> Vec<Vec<u64>> {
        let parts = history.since(from);
        parts
            .iter()
            .map(|part| part.iter().map(|streamed| streamed.position.commit).collect())
            .collect()
    }

    #[test]
    fn what_is_too_old_or_too_much_goes() {
        let (mut history, table, start) = (History::new(AGE), relation(), Instant::now());
        history.keep(vec![change(&table, 10, 0, 5)], Lsn(11), start);
        history.keep(vec![change(&table, 20, 0, 5)], Lsn(21), start + AGE / 2);
        assert_eq!(places(&mut history, Position::default()), [[10, 20]]);
        assert_eq!(history.dispensable(Lsn(21)), Lsn(0));
        history.keep(Vec::new(), Lsn(30), start + AGE + Duration::from_secs(1));
        assert_eq!(places(&mut history, Position::default()), [[20]]);
        assert_eq!(history.dispensable(Lsn(30)), Lsn(11));
        assert!(history.has_gap(Position::new(10, 0)));
        assert!(
            !history.has_gap(Position::new(10, 1)),
            "the log went on, and nothing changed"
        );
        assert_eq!(
            history.dispensable(Lsn(30 + MAX_LOG)),
            Lsn(30),
            "a log that grows is not kept for us alone"
        );
        let much = start + AGE + Duration::from_secs(10);
        history.keep(vec![change(&table, 40, 0, MAX_BYTES)], Lsn(41), much);
        assert_eq!(places(&mut history, Position::default()), [[40]]);
    }

    #[test]
    fn a_client_goes_on_in_the_middle_of_a_transaction() {
        let (mut history, table) = (History::new(AGE), relation());
        let transaction = (0..3).map(|number| change(&table, 10, number, 1)).collect();
        history.keep(transaction, Lsn(11), Instant::now());
        assert_eq!(places(&mut history, Position::new(10, 1).next()), [[10]]);
    }

    #[test]
    fn a_table_looks_one_way_in_each_part() {
        let (mut history, before, after) = (History::new(AGE), relation(), relation());
        let batch = vec![
            change(&before, 1, 0, 1),
            change(&before, 2, 0, 1),
            change(&after, 3, 0, 1),
        ];
        history.keep(batch, Lsn(4), Instant::now());
        assert_eq!(places(&mut history, Position::default()), [vec![1, 2], vec![3]]);
    }
}
