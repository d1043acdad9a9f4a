//! Places in the stream of changes.

use pgwire_replication::Lsn;

/// Where a change stands: transactions are in the order of their commits, changes in the order of their transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Where the transaction committed in the write-ahead log.
    pub commit: u64,
    /// The change's number in it.
    pub change: u32,
}

impl Position {
    /// The place of a transaction's change.
    pub fn new(commit: u64, change: u32) -> Self {
        Self { commit, change }
    }

    /// The first place behind this one.
    pub fn next(self) -> Self {
        Self::new(self.commit, self.change.saturating_add(1))
    }

    /// The transaction's place as Postgres writes it.
    pub fn lsn(self) -> String {
        Lsn(self.commit).to_string()
    }
}
